"""From videos to clips: measured and cut by a run's workers, in decoder processes that a hostile container may kill."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, cast

from specktrack.annotating.workers import Attempts, Workers
from specktrack.errors import MediaError
from specktrack.schema import Clip, ClipRecord, Prompt, VideoRef
from specktrack.tracking.prompts import check_prompt
from specktrack.tracking.windowed.interleaved import frames_apart
from specktrack.video import VideoInfo
from specktrack.video.process import DecoderProcess

SEEK_POINTS_BEFORE = 8
"""Seek points kept before a clip's first frame, for streams where the nearest one cannot be used."""


class PlannedClip(TypedDict):
    """One clip to annotate, or one video to set aside, as a row of a Ray dataset."""

    key: str
    """That of the clip's record."""
    video: str
    """VideoRef as JSON."""
    clip: str
    """Clip as JSON; empty for a video to set aside."""
    info: str
    """VideoInfo as JSON, reduced to what decoding this clip needs."""
    frames: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Cutting:
    """How videos are cut; what every planner of a run is given."""

    stride: int
    """Clips start at multiples of it, counted in frames ``step_s`` apart."""
    lead: int | None
    """Frames before and after a clip that its rows depend on, counted alike; None: a video stays one clip."""
    clip_s: float
    attempts: Attempts
    step_s: float | None = None
    """Seconds between the frames that the tracker sees together, see ``tracking.windowed.interleaved``."""
    prompts: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    """The prompts of a video, by its URI."""


@dataclass(frozen=True)
class Plan:
    """The clips in the sources, by record key."""

    clips: dict[str, PlannedClip]
    unreadable: dict[str, PlannedClip]
    """Videos that could not be measured in this run."""
    set_aside: tuple[str, ...]
    """Videos that could not be measured in an earlier one."""
    complete: tuple[str, ...] = ()
    """Clips of videos that all have records, and were not measured again."""

    @property
    def keys(self) -> list[str]:
        """Keys of the records that a finished run has."""
        return [*self.clips, *self.complete, *self.unreadable, *self.set_aside]

    @property
    def size(self) -> int:
        """Clips of all videos that could be measured."""
        return len(self.clips) + len(self.complete)

    def to_do(self, done: Collection[str]) -> list[PlannedClip]:
        """Clips without a record."""
        return [clip for key, clip in self.clips.items() if key not in done]


@dataclass(frozen=True)
class Known:
    """Facts about videos from the records, which need not be measured again."""

    to_measure: tuple[VideoRef, ...]
    set_aside: tuple[str, ...] = ()
    complete: tuple[str, ...] = ()
    """Keys of the records, here and above."""


def known(videos: Sequence[VideoRef], done: Mapping[str, ClipRecord]) -> Known:
    """Sort out the videos that have a record as a whole, or one for each of their frames."""
    records: dict[str, list[ClipRecord]] = defaultdict(list)
    for record in done.values():
        records[record.video.key].append(record)
    to_measure, set_aside, complete = [], [], []
    for video in videos:
        whole, of_it = key_of_whole(video), records[video.key]
        if whole in done:
            set_aside.append(whole)
        elif covers(of_it):
            complete += [record.key for record in of_it]
        else:
            to_measure.append(video)
    return Known(tuple(to_measure), tuple(set_aside), tuple(complete))


def covers(records: Collection[ClipRecord]) -> bool:
    """Whether the records of a video are of all its frames, each once; never where they do not say how many it has."""
    at = 0
    for record in sorted(records, key=lambda record: record.start):
        if record.start != at:
            return False
        at = record.stop
    return at > 0 and {record.frames for record in records} == {at}


def make_plan(known: Known, cutting: Cutting, workers: Workers) -> Plan:
    """Have workers measure and cut the videos of which it has to be done."""
    rows = [{"video": video.model_dump_json()} for video in known.to_measure]
    found = cast(Iterator[PlannedClip], workers.work(rows, Planner, cutting))
    planned = {row["key"]: row for row in found}
    return Plan(
        clips={key: planned[key] for key in sorted(planned) if planned[key]["clip"]},
        unreadable={key: planned[key] for key in sorted(planned) if not planned[key]["clip"]},
        set_aside=known.set_aside,
        complete=known.complete,
    )


def key_of_whole(video: VideoRef) -> str:
    """Key of the record of a video that could not even be cut into clips."""
    return f"{video.key}/{0:09d}-{0:09d}"


class Planner:
    """An actor's work: measures videos and cuts them into clips."""

    def __init__(self, cutting: Cutting) -> None:
        self._cutting, self._decoder = cutting, DecoderProcess()

    def __call__(self, row: dict[str, str]) -> list[PlannedClip]:
        """Clips of the video in ``row``, or the reason why it has none."""
        video = VideoRef.model_validate_json(row["video"])
        empty = PlannedClip(
            key=key_of_whole(video), video=row["video"], clip="", info="", frames=0, reason="", detail=""
        )
        try:
            self._cutting.attempts.begin(video.key)
            info = self._decoder.probe(video)
        except MediaError as error:
            return [{**empty, "reason": str(error.reason), "detail": str(error)}]
        return [
            {
                **empty,
                "key": f"{video.key}/{clip.key}",
                "clip": clip.model_dump_json(),
                "info": _info_for(clip, info).model_dump_json(),
                "frames": clip.stop - clip.start,
            }
            for clip in cut(video, info, self._cutting)
        ]


def cut(video: VideoRef, info: VideoInfo, cutting: Cutting) -> list[Clip]:
    """Cut a video into clips of about ``clip_s``, so that their rows together are those of one uncut pass.

    Starts are multiples of the session's stride, and lie ``lead`` frames after a seek point where one is near: then the
    decoder starts where the lead-in does. A video that can only be read from its start stays whole, and so does one
    whose rows depend on all of it. ConfigError for a prompt past its end, or outside its picture.
    """
    prompts = cutting.prompts.get(video.uri, ())
    for prompt in prompts:
        check_prompt(prompt, info.frames, info.size_wh_px, video.uri)
    if cutting.lead is None:
        return [Clip(video=video, start=0, stop=info.frames, prompts=prompts)]
    every = frames_apart(info.fps, cutting.step_s)
    stride, lead = cutting.stride * every, cutting.lead * every
    length = max(1, round(cutting.clip_s * info.fps / stride)) * stride
    easy = sorted({-(-(keyframe + lead) // stride) * stride for keyframe in info.keyframes})
    starts = [0]
    while not info.counted and (target := starts[-1] + length) + length // 2 < info.frames:
        after = bisect_right(easy, target)
        nearest = min(easy[max(0, after - 1) : after + 1], key=lambda start: abs(start - target))
        starts.append(nearest if abs(nearest - target) <= length // 4 else target)
    return [
        Clip(video=video, start=start, stop=stop, lead_in=min(lead, start), lead_out=min(lead, info.frames - stop))
        for start, stop in zip(starts, [*starts[1:], info.frames], strict=True)
    ]


def _info_for(clip: Clip, info: VideoInfo) -> VideoInfo:
    """A match has 10,000 seek points and 300 clips: each clip takes along only the ones near it, and the first."""
    first = max(1, bisect_right(info.keyframes, clip.start - clip.lead_in) - SEEK_POINTS_BEFORE)
    last = bisect_right(info.keyframes, clip.stop + clip.lead_out)
    return info.model_copy(
        update={
            "keyframes": info.keyframes[:1] + info.keyframes[first:last],
            "keyframe_pts": info.keyframe_pts[:1] + info.keyframe_pts[first:last],
        }
    )
