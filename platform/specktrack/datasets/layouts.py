"""Labels that lie in files beside their videos: where the files of each format are, and how they are read.

    tennis           game*/Clip*/Label.csv + frames     file name,visibility,x-coordinate,y-coordinate,status    px
    shuttlecock      match*/csv/*_ball.csv + video/     Frame,Visibility,X,Y         px
    multiball        NAME.csv beside NAME.mp4           Frame,Object,Visibility,X,Y  px; object 0 is the primary ball
    volleyball       csvs/NAME.csv + images/NAME/       frame_num,x,y,visible        x, y divided by width and height
    badminton        NNN.csv beside NNN.mp4             Frame,Ball,x,y               x, y divided by width and height
    wasb-soccer      annos/ID-1.xml + videos, frames    CVAT video XML; used_in_game tells the primary ball
    wasb-volleyball  */MATCH/CLIP.txt + videos/         x y in line i for frame i; 0 0 is absent
    wasb-basketball  ball-annos/GAME/*_CLIP.xml         CVAT video XML
    cvat             NAME.xml, NAME/annotations.xml     CVAT 1.1, for video or for images
    label-studio     *.json                             Label Studio's JSON with VideoRectangle, or JSON_MIN
    coco             *.json                             images, annotations and categories
    mot              SEQ/gt/gt.txt, NAME.txt            frame,id,left,top,width,height,... from 1
    fiftyone         manifest.json, labels/NAME.json    boxes as shares, of the videos that the manifest names
    yolo             labels/**/NAME_12.txt              class x y width height as shares, a file per frame

A video may be a file or a folder of frames in all of them. Columns of CSV go by name, see ``csv_labels``. No layout of
Badminton100K, Tennis50K and Squash30K is published; they are assumed to come as matches in the shuttlecock layout, at
1080p. A layout is data: how its files are found, how a label file finds its video, and one function that reads a file.
Problems are sentences that name file and line, gathered so that all are seen at once.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

from specktrack.datasets.coco import is_coco, read_coco
from specktrack.datasets.csv_labels import COLUMNS, format_of, is_nowhere, number, read_csv
from specktrack.datasets.cvat import is_cvat, read_cvat
from specktrack.datasets.fiftyone import MANIFEST, is_fiftyone, read_fiftyone
from specktrack.datasets.label_studio import is_label_studio, read_label_studio
from specktrack.datasets.lines import Line, Sheet
from specktrack.datasets.mot import is_mot, read_mot
from specktrack.datasets.yolo import NAMES, is_yolo, read_yolo, video_of
from specktrack.schema import Visibility

Files = Mapping[str, bytes]
"""Label files by their keys: one, or all of one video, and what lies beside them."""
Read = Callable[[Files], tuple[list[Sheet], list[str]]]


@dataclass(frozen=True)
class Layout:
    """How the labels of one format lie and are read."""

    name: str
    about: str
    """How its files begin, for messages."""
    is_label: Callable[[str], bool] = field(repr=False)
    """Whether a key may be a label file of this layout; its name in small letters."""
    begins: Callable[[bytes], bool] = field(repr=False)
    """Whether a file's bytes are of this format."""
    videos: Callable[[PurePosixPath], tuple[str, ...]] = field(repr=False)
    """Keys (without suffix; with a trailing slash for a folder) where the video of a label file may be."""
    read: Read = field(repr=False)
    """The sheets of a file, and the problems in it."""
    is_sure: Callable[[str], bool] = field(default=lambda key: False, repr=False)
    """Whether a key is one where only labels of this layout lie: it is read whatever it begins with."""
    normalised: bool = False
    """Coordinates are divided by width and height."""
    edge_px: float = 0.0
    """Where the centre of the first pixel lies: 0.5 in tools that measure from the picture's edge."""
    numbered_by_name: bool = False
    """In a folder of frames a frame number is the one in the image's name, not its place in the order."""
    video_of: Callable[[str], str] = field(default=lambda key: key, repr=False)
    """The part of a name that all files of one video share, if there is one for each frame."""
    beside: tuple[str, ...] = ()
    """Names of files in the folders above that are read with a label file."""


def _one_file(read: Callable[[bytes, str], tuple[list[Sheet], list[str]]]) -> Read:
    """A reader of files that stand for themselves."""

    def of_one(files: Files) -> tuple[list[Sheet], list[str]]:
        ((place, data),) = files.items()
        return read(data, place)

    return of_one


# --- WASB's volleyball ----------------------------------------------------------------------------------------------


def _is_pairs(data: bytes) -> bool:
    first = data[:200].decode("utf-8-sig", errors="replace").split("\n")[0].split()
    return len(first) == 2 and all(re.fullmatch(r"-?\d+(\.\d+)?", word) for word in first)


def read_pairs(data: bytes, place: str) -> tuple[list[Sheet], list[str]]:
    """``x y`` in line i is frame i; ``0 0`` and ``-1 -1`` are absent. Blank lines may follow the last one."""
    lines: list[Line] = []
    problems: list[str] = []
    for frame, text in enumerate(data.decode("utf-8-sig", errors="replace").rstrip().splitlines()):
        words = text.split()
        try:
            if len(words) != 2:
                raise ValueError(f"is {text!r}, not 'x y'")
            x, y = number(words[0], "x"), number(words[1], "y")
        except ValueError as error:
            problems.append(f"{place}:{frame + 1} {error}")
            continue
        if is_nowhere(x, y):
            lines.append(Line(frame, float("nan"), float("nan"), Visibility.ABSENT))
        else:
            lines.append(Line(frame, x, y, Visibility.CLEAR))
    if not lines and not problems:
        problems.append(f"{place} holds no labels")
    return [Sheet(lines, whole=True)], problems


# --- where videos are -----------------------------------------------------------------------------------------------


def _either(place: object) -> tuple[str, str]:
    """A video file, or a folder of frames."""
    return str(place), f"{place}/"


def _beside(key: PurePosixPath) -> tuple[str, ...]:
    return _either(key.with_suffix(""))


def _of_clip(key: PurePosixPath) -> tuple[str, ...]:
    folder = str(key.parent)
    return ("./",) if folder == "." else (f"{folder}/", folder)


def _of_match(key: PurePosixPath) -> tuple[str, ...]:
    match = key.parent.parent
    stem = re.sub(r"(?i)(?<=.)(_ball)?(_pred(ict(ion)?)?)?$", "", key.stem, count=1)
    return (str(match / "video" / stem), *_either(key.parent / stem), f"{match / 'frame' / stem}/")


def _of_images(key: PurePosixPath) -> tuple[str, ...]:
    root = key.parent.parent
    return (f"{root / 'images' / key.stem}/", *reversed(_beside(key)), str(root / "videos" / key.stem))


def _of_soccer(key: PurePosixPath) -> tuple[str, ...]:
    root = key.parent.parent
    return (*_either(root / "videos" / key.stem), f"{root / 'frames' / key.stem}/", *_beside(key))


def _of_game(key: PurePosixPath) -> tuple[str, ...]:
    clip = key.stem.rpartition("_")[2]  # basketball: GAME/anything_CLIP.xml
    return (*reversed(_either(key.parent.parent.parent / "videos" / key.parent.name / clip)), *_beside(key))


def _of_task(key: PurePosixPath) -> tuple[str, ...]:
    pictures = f"{key.parent / 'images'}/"
    if key.stem != "annotations":
        return _beside(key)
    return (pictures,) if str(key.parent) == "." else (*_either(key.parent), pictures)


def _of_pictures(key: PurePosixPath) -> tuple[str, ...]:
    """One folder of pictures for a file that lies beside, above or among them."""
    root = key.parent.parent
    return (
        *_beside(key),
        f"{key.parent}/",
        f"{key.parent / 'images'}/",
        f"{root / 'images'}/",
        f"{root / 'images' / 'default'}/",
    )


def _of_sequence(key: PurePosixPath) -> tuple[str, ...]:
    if key.name.lower() != "gt.txt":
        return _beside(key)
    sequence = key.parent.parent if key.parent.name == "gt" else key.parent
    return f"{sequence / 'img1'}/", *_either(sequence)


def _of_data(key: PurePosixPath) -> tuple[str, ...]:
    return (*_either(key.parent.parent / "data" / key.stem), *_beside(key))


def _of_frames(key: PurePosixPath) -> tuple[str, ...]:
    """``key`` is what the files of one video have in common; the folder of pictures is named as that of labels."""
    named = [str(key), f"{key}/"]
    if "labels" in key.parts:
        at = len(key.parts) - 1 - key.parts[::-1].index("labels")
        for folder in ("images", "videos"):
            other = PurePosixPath(*key.parts[:at], folder, *key.parts[at + 1 :])
            named += [f"{other}/", str(other), f"{other.parent}/"]
        named += [str(PurePosixPath(*key.parts[:at], key.name))]
    return (*named, f"{key.parent}/")


# --- which files ----------------------------------------------------------------------------------------------------


def _ends(*suffixes: str) -> Callable[[str], bool]:
    return lambda key: key.endswith(suffixes)


def _is_rally(key: str) -> bool:
    folders = r"(^|/)(corrected_)?(csv|labels?|annos?|annotations?)/[^/]+\.csv$"
    return key.endswith("_ball.csv") or re.search(folders, key) is not None


def _is_soccer(key: str) -> bool:
    return re.search(r"(^|/)id-\d+\.xml$", key) is not None


def _is_basketball(key: str) -> bool:
    return re.search(r"(^|/)ball-annos/[^/]+/[^/]+\.xml$", key) is not None


def _is_clip(key: str) -> bool:
    return re.search(r"(^|/)\d+/[^/]+\.txt$", key) is not None


def _is_tracks(key: str) -> bool:
    return key.endswith(".txt") and not key.endswith("/det/det.txt")  # what a detector found, beside the truth


def _is_frame(key: str) -> bool:
    return re.search(r"\d\.txt$", key) is not None


def _csv(
    name: str,
    videos: Callable[[PurePosixPath], tuple[str, ...]],
    is_sure: Callable[[str], bool] = lambda key: False,
) -> Layout:
    columns = COLUMNS[name]
    return Layout(
        name, columns.header, _ends(".csv", ".tsv"), lambda data: format_of(data) == name, videos,
        _one_file(partial(read_csv, columns=columns)), is_sure, columns.shares,
    )  # fmt: skip


_published_cvat = _one_file(partial(read_cvat, published=True))

LAYOUTS = {
    item.name: item
    for item in (
        _csv("tennis", _of_clip, lambda key: PurePosixPath(key).name == "label.csv"),
        _csv("shuttlecock", _of_match, _is_rally),
        _csv("multiball", _of_match),
        _csv("volleyball", _of_images),
        _csv("badminton", lambda key: (*_beside(key), *_of_match(key))),
        Layout(
            "wasb-soccer", "ID-1.xml", _is_soccer, is_cvat, _of_soccer, _published_cvat, _is_soccer,
            numbered_by_name=True,
        ),
        Layout(
            "wasb-basketball", "ball-annos/*/*.xml", _is_basketball, is_cvat, _of_game, _published_cvat,
            _is_basketball, numbered_by_name=True,
        ),
        Layout("wasb-volleyball", "'x y' per line", _is_clip, _is_pairs, _of_game, _one_file(read_pairs), _is_clip),
        Layout(
            "cvat", "CVAT 1.1, for video or images", _ends(".xml"), is_cvat, _of_task, _one_file(read_cvat), edge_px=0.5
        ),
        Layout(
            "label-studio", "Label Studio JSON", _ends(".json"), is_label_studio, _beside,
            _one_file(read_label_studio), normalised=True, edge_px=0.5,
        ),
        Layout("coco", "COCO JSON", _ends(".json"), is_coco, _of_pictures, _one_file(read_coco), edge_px=0.5),
        Layout(
            "mot", "frame,id,left,top,width,height,...", _is_tracks, is_mot, _of_sequence, read_mot,
            lambda key: key.endswith("/gt/gt.txt"), edge_px=0.5, beside=("seqinfo.ini",),
        ),
        Layout(
            "fiftyone", "frames and objects of a video, JSON", _ends(".json"), is_fiftyone, _of_data, read_fiftyone,
            normalised=True, edge_px=0.5, beside=(MANIFEST,),
        ),
        Layout(
            "yolo", "class x y width height", _is_frame, is_yolo, _of_frames, read_yolo, normalised=True, edge_px=0.5,
            video_of=video_of, beside=NAMES,
        ),
    )
}  # fmt: skip
