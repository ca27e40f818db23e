"""The command line: what people type, what they get, and one sentence where it is wrong."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow.parquet as pq
import pytest
from pydantic import Field
from tests.clock import Clock

from specktrack import telemetry
from specktrack.cli import main as cli
from specktrack.cli import submit
from specktrack.cli.completion import CompletionConfig, completion
from specktrack.cli.options import parse
from specktrack.cli.table import VERBS, Verb, find_verb
from specktrack.cli.usage import usage
from specktrack.config import Config, VerbConfig
from specktrack.errors import ConfigError, MediaError, QuarantineReason, StorageError
from specktrack.models.cards import read_card
from specktrack.models.zoo import WEIGHTS

ROOT = Path(__file__).parents[1]


class Lens(Config):
    """A part with settings of its own."""

    zoom: float = 1.0
    """How near."""


class EchoConfig(VerbConfig):
    """Says what it was told."""

    verb: ClassVar[str] = "echo"

    sources: tuple[str, ...] = Field(min_length=1)
    """What to read."""
    output: str = "out"
    """Where to write; 100 % yours."""
    loud: bool = False
    """Say it loudly."""
    resume: bool = True
    """Go on."""
    mode: Literal["fast", "safe"] = "fast"
    """How."""
    tags: tuple[str, ...] = ()
    """Words."""
    limit: int | None = None
    """How many."""
    size: tuple[int, int] = (64, 48)
    """How large."""
    lens: Lens = Lens()


class EchoReport(Config):
    """What was told."""

    told: EchoConfig
    exit_code: int = 0


FAILURES: dict[str, BaseException] = {
    "quarantine": MediaError(QuarantineReason.EMPTY, "nothing in it"),
    "storage": StorageError("the bucket is gone", "s3://b"),
    "interrupt": KeyboardInterrupt(),
    "pipe": BrokenPipeError(),
    "disk": PermissionError(13, "Permission denied", "/x"),
}


def echo(config: EchoConfig) -> EchoReport:
    if config.output in FAILURES:
        raise FAILURES[config.output]
    return EchoReport(told=config, exit_code=5 if config.output == "five" else 0)


@pytest.fixture(autouse=True)
def echo_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb without work behind it, in the real table."""
    here = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "echoing", here)
    entry = Verb("Says what it was told.", "echoing:EchoConfig", "echoing:echo", ("sources",))
    monkeypatch.setitem(VERBS, "echo", entry)


def told(*arguments: str) -> EchoConfig:
    config, _ = parse("echo", arguments)
    assert isinstance(config, EchoConfig)
    return config


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


# what people type


def test_gc_removes_what_no_record_names_and_needs_no_sources(tmp_path, capsys):
    orphan = tmp_path / f"out/data/match-{12 * '1'}/{32 * '0'}.parquet"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"rows of a writer that died")
    assert cli.main(["annotate", "--output", str(tmp_path / "out"), "--gc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == 0  # it might still be at work
    os.utime(orphan, (1, 1))
    assert cli.main(["annotate", "--output", str(tmp_path / "out"), "--gc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == 1 and not orphan.exists()


def test_words_options_and_overrides_mix_in_any_order() -> None:
    config = told("a.mp4", "--output", "x", "b.mp4", "lens.zoom=2", "--mode", "safe", "limit=3", "c d.mp4")
    assert config == EchoConfig(
        sources=("a.mp4", "b.mp4", "c d.mp4"), output="x", mode="safe", limit=3, lens=Lens(zoom=2)
    )


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (("--loud",), "loud", True),
        (("--no-loud",), "loud", False),
        (("--fresh",), "resume", False),
        (("--resume",), "resume", True),
        (("--lens.zoom", "3.5"), "lens", Lens(zoom=3.5)),
        (("--tags", "a", "--tags", "b"), "tags", ("a", "b")),
        (("--tags", "[a, b]"), "tags", ("a", "b")),
        (("--tags", "a"), "tags", ("a",)),
        (("tags=[a, b]",), "tags", ("a", "b")),
        (("--output=-",), "output", "-"),
        (("--size", "640x360"), "size", (640, 360)),
        (("--size=640,360",), "size", (640, 360)),
        (("--size", "[640, 360]"), "size", (640, 360)),
        (("--size", "640", "--size", "360"), "size", (640, 360)),
        (("size=640x360",), "size", (640, 360)),
        (("loud=yes",), "loud", True),
    ],
)
def test_an_option_for_every_field(arguments: tuple[str, ...], field: str, value: Any) -> None:
    assert getattr(told("a.mp4", *arguments), field) == value


def test_a_word_that_is_a_path_is_no_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "limit=3").mkdir()
    assert told("limit=3", "Match=2.mp4", "s3://b/x=1").sources == ("limit=3", "Match=2.mp4", "s3://b/x=1")


def test_options_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("sources: [a.mp4]\noutput: file\nlimit: 1\n")
    config = told("--config", str(tmp_path / "run.yaml"), "--output", "option")
    assert (config.sources, config.output, config.limit) == (("a.mp4",), "option", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "--outptu", "x"), r"unknown option: '--outptu'; did you mean '--output'\? allowed: .*--lens.zoom"),
        (("a", "--output"), r"argument --output: expected one argument; see 'specktrack echo --help'"),
        (("a", "outptu=x"), r"unknown key 'outptu'; did you mean 'output'\?"),
        (("a", "--mode", "slow"), r"mode='slow': input should be 'fast' or 'safe'"),
        (("a", "--sources", "b"), r"unknown option: '--sources'; .*allowed: --output"),
        (("a", "--size", "640"), r"'size.1' is required"),
        (("a", "--limit", "many"), r"limit='many': input should be a valid integer"),
        (("a", "--loud", "--no-loud"), r"argument --no-loud: not allowed with argument --loud"),
        ((), r"'sources' is required \(configuration of 'echo'\); see 'specktrack echo --help'"),
        (("a", "--config", "none.yaml"), r"cannot read the configuration file: No such file or directory: 'none.yaml'"),
    ],
)
def test_a_mistake_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse("echo", arguments)
    code, out, err = run(capsys, "echo", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_verb_without_room_for_another_word_refuses_it() -> None:
    with pytest.raises(ConfigError, match=r"unexpected argument: 'more'; see 'specktrack models show --help'"):
        parse("models show", ["wasb", "more"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["anotate"], r"no such verb: 'anotate'; did you mean 'annotate'\? there are: annotate, train"),
        (["data", "imprt"], r"no such verb: 'data imprt'; did you mean 'data import'\? there are: data import, data"),
        (["--sources"], r"no such verb: '--sources'"),
        (["models"], r"no such verb: 'models'; .*there are: models list, models show"),
    ],
)
def test_an_unknown_verb_names_the_known_ones(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_verb(arguments)


def test_what_follows_submit_belongs_to_the_job() -> None:
    config, given = parse("submit", ["--address", "http://head:8265", "annotate", "s3://b", "--output", "x", "--json"])
    assert isinstance(given, argparse.Namespace)
    assert config.model_dump(exclude_unset=True) == {
        "address": "http://head:8265", "command": ("annotate", "s3://b", "--output", "x", "--json"),
    }  # fmt: skip


# what they get


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(f"  {name} " in out for name in VERBS)
    assert run(capsys)[0] == 2
    assert run(capsys, "--version") == (0, "specktrack 0.1.0\n", "")


def test_a_verbs_help_is_its_fields_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "echo", "a", "--help")
    assert (code, out.rstrip()) == (0, usage("echo"))
    words = " ".join(out.split())
    for text in (
        "specktrack echo SOURCES... [options]",
        "SOURCES... What to read. (required, may be repeated)",
        "Where to write; 100 % yours. [out]",
        "--resume, --fresh Go on. [on]",
        "--mode {fast,safe} How. [fast]",
        "--loud, --no-loud Say it loudly. --resume",
        "--size A,B How large. [64x48]",
        "--limit N How many.",
    ):
        assert text in words  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("help",), "usage: specktrack VERB ..."),
        (("help", "data", "check"), "usage: specktrack data check DATA [options]"),
        (("export", "--help"), "usage: specktrack export ANNOTATIONS DESTINATION --to TO [options]"),
        (("submit", "--help"), "usage: specktrack submit [options] COMMAND..."),
        (("submit", "annotate", "--help"), "usage: specktrack annotate SOURCES... --output OUTPUT [options]"),
        (("data", "--help"), "usage: specktrack data VERB ..."),
    ],
)
def test_help_is_found_where_people_look_for_it(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    code, out, _ = run(capsys, *arguments)
    assert (code, out.startswith(expected)) == (0, True), out


@pytest.mark.parametrize("columns", ["40", "80", "300"])
def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    texts = usage("annotate").splitlines()[3:]
    unbroken = [line for line in texts if line.startswith("  --") and line.endswith("}")]  # an option and its choices
    assert max(len(line) for line in texts if line not in unbroken) <= max(65, min(int(columns), 120))


def test_json_is_the_last_thing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "echo", "a", "--json", "--limit", "2")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["told"]["limit"] == 2


def test_without_json_a_report_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "echo", "a.mp4", "--limit", "2")
    assert "told: sources" in out
    assert "a.mp4" in out
    assert "{" not in out


def test_plain_is_lines_of_fields(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "echo", "a\tb.mp4", "--plain", "--limit", "2", "tags=[x, y]")
    assert code == 0
    fields = dict(line.split("\t") for line in out.splitlines())
    assert fields["told.limit"] == "2" and fields["told.lens.zoom"] == "1.0" and fields["told.loud"] == "false"
    assert fields["told.sources"] == '["a\\tb.mp4"]' and fields["exit_code"] == "0"
    assert list(cli.plain_lines([{"a": 1, "b": None}, {"a": "x y\n", "b": 2.5}])) == ["a\tb", "1\t", "x y\t2.5"]
    assert list(cli.plain_lines({"c": [{"a": 1}], "d": []})) == ["c\ta", "c\t1", "d\t[]"]


def test_quiet_prints_only_what_a_script_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "echo", "a", "--quiet") == (0, "", "")
    telemetry.get_logger().info("nobody hears this")
    telemetry.get_logger().warning("but this")
    assert not telemetry.shows_bars()
    told = capsys.readouterr().err
    assert "but this" in told and "nobody" not in told
    assert json.loads(run(capsys, "echo", "a", "--quiet", "--json")[1])["exit_code"] == 0
    assert run(capsys, "echo", "a", "--quiet", "--verbose")[0] == 2
    telemetry.configure()


@pytest.fixture(scope="module")
def bash_completion() -> str:
    return completion(CompletionConfig(shell="bash"))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("da", {"data"}),
        ("data pi", {"pick"}),
        ("data import --mis", {"--missing"}),
        ("data import --missing a", {"absent"}),
        ("export rows --to c", {"cvat", "cvat-images", "coco", "csv"}),
        ("annotate --model specknet-w", {"specknet-wide"}),
        ("annotate --no-res", set()),
        ("annotate --fr", {"--fresh"}),
        ("train --recipe specknet-f", {"specknet-finetune"}),
        ("evaluate --qu", {"--quiet"}),
        ("annotate --output x", set()),  # files, which bash knows
    ],
)
def test_bash_completes(bash_completion: str, typed: str, offered: set[str]) -> None:
    words = ["specktrack", *typed.split(" ")]
    ask = f'COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _specktrack; echo "${{COMPREPLY[*]}}"'
    done = subprocess.run(
        ["bash", "-c", f"{bash_completion}\n{ask}"], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.split()) == offered and not done.stderr


def test_every_shell_is_told_of_every_verb(bash_completion: str) -> None:
    zsh = completion(CompletionConfig(shell="zsh"))
    assert "bashcompinit" in zsh and zsh.endswith(bash_completion.splitlines()[-1] + "\n")
    fish = completion(CompletionConfig(shell="fish"))
    for name in VERBS:
        assert re.search(rf"(-n '__fish_seen_subcommand_from |subcommand -a ){name.split()[0]}\b", fish), name
    for name in ("bash", "zsh", "fish"):
        if shutil.which(name):
            script = completion(CompletionConfig(shell=name))  # type: ignore[arg-type]
            subprocess.run([name, "-n"], input=script, text=True, check=True, timeout=60)


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("five", 5, ""),
        ("quarantine", 5, "error: nothing in it\n"),
        ("storage", 4, "error: the bucket is gone: 's3://b'\n"),
        ("disk", 4, "error: [Errno 13] Permission denied: '/x'\n"),
        ("interrupt", 130, "error: interrupted; what was written stays, the same command can be run again\n"),
    ],
)
def test_exit_codes(capsys: pytest.CaptureFixture[str], output: str, code: int, message: str) -> None:
    done, _, err = run(capsys, "echo", "a", "--output", output)
    assert (done, err) == (code, message)


def test_an_error_from_a_worker_is_told_without_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray raises an instance of both classes whose text is the worker's traceback, with the original as its cause."""

    class FromWorker(StorageError):
        cause = StorageError("the bucket is gone")

        def __str__(self) -> str:
            return "Traceback (most recent call last): ..."

    monkeypatch.setitem(FAILURES, "worker", FromWorker("x"))
    assert run(capsys, "echo", "a", "--output", "worker") == (4, "", "error: the bucket is gone\n")


def specktrack(*arguments: str, **rest: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    command = [sys.executable, "-m", "specktrack.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False, **rest)


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m specktrack.cli --help; echo $? >&2"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    with subprocess.Popen(
        ["bash", "-c", command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == f"{cli.PIPE_CLOSED}\n"


def test_an_interrupted_process_does_not_wait_for_its_threads() -> None:
    code = (
        "import signal, threading, time, _thread, sys; from specktrack.cli import main as cli, options;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"  # shells have their background jobs ignore it
        "threading.Thread(target=time.sleep, args=(1000,)).start();"
        "options.parse = lambda *_: _thread.interrupt_main() or time.sleep(9); sys.exit(cli.entry(['doctor']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (130, 1), done.stderr


def test_bad_input_ends_without_a_traceback(tmp_path: Path) -> None:
    for arguments in (["data", "stats", str(tmp_path / "none")], ["models", "show", "nothing"], ["evaluate"]):
        done = specktrack(*arguments, cwd=tmp_path)
        assert done.returncode in (2, 3, 4), arguments
        assert done.stderr.startswith("error: "), done.stderr


# the small verbs


def test_models_list_names_size_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "list", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)}
    assert code == 0
    assert set(entries["tracknet-v2"]) == {
        "name", "family", "parameters", "frames_in", "frames_out", "input_wh", "gflop_per_frame", "weights",
        "f1_known", "f1_unseen",
    }  # fmt: skip
    assert entries["tracknet-v2"]["parameters"] == 11_334_147  # as counted in the WASB paper's code
    assert entries["tracknet-v2"]["input_wh"] == [512, 288]
    assert [entries["tracknet-v2"][name] for name in ("weights", "f1_known", "f1_unseen")] == [None, None, None]
    card = read_card(WEIGHTS / "specknet.safetensors")
    width, height = card["network"]["input_wh"]
    default = entries["specknet"]
    assert default["input_wh"] == [width, height] and default["weights"] == "specknet.safetensors"
    assert default["gflop_per_frame"] == pytest.approx(1.67 * width * height / (512 * 288), abs=0.01)
    assert default["f1_known"] == card["metrics"]["4 px at 512x288"]["f1"]
    assert default["f1_unseen"] == card["metrics"].get("unseen places", {}).get("f1")


def test_models_show_prints_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "show", "tracknet-v2", "--json")
    assert code == 0
    assert json.loads(out)["network"]["frames_in"] == 3
    assert "unpublished" in json.loads(run(capsys, "models", "show", "cmu-net", "--json")[1])["about"]
    assert run(capsys, "models", "show", "nothing")[0] == 3


def test_a_dataset_is_rendered_counted_imported_and_exported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    archive, rows = str(tmp_path / "archive"), str(tmp_path / "rows.parquet")
    size = ["videos=1", "frames=12", "width_px=64", "height_px=48"]
    assert run(capsys, "data", "synth", archive, *size, "--json")[0] == 0
    code, out, _ = run(capsys, "data", "stats", archive, "--json")
    assert (code, json.loads(out)["labelled_frames"]) == (0, 12)
    code, out, _ = run(capsys, "data", "check", archive, "--output", str(tmp_path / "check"), "--json")
    assert code == 0
    from specktrack.datasets import load_dataset

    labels = load_dataset(archive).rows
    pq.write_table(labels, rows)
    for to, name in (("csv", "all.csv"), ("badminton", "one.csv")):
        code, out, _ = run(capsys, "export", rows, "--to", to, str(tmp_path / name), "--json")
        assert (code, json.loads(out)["rows"]) == (0, 12)
    assert len((tmp_path / "one.csv").read_text().splitlines()) == 13
    code, _, err = run(capsys, "export", rows, "--to", "fax", str(tmp_path / "x"))
    assert code == 2
    assert "no such export: 'fax'" in err


def test_rows_are_drawn_onto_their_video(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from specktrack.datasets import load_dataset
    from specktrack.datasets.synthetic import SynthConfig, write_archive

    write_archive(SynthConfig(videos=1, frames=6, width_px=64, height_px=48), str(tmp_path / "archive"))
    pq.write_table(load_dataset(str(tmp_path / "archive")).rows, tmp_path / "rows.parquet")
    out_path = str(tmp_path / "o.mp4")
    video = load_dataset(str(tmp_path / "archive")).card.videos[0].ref.uri
    code, out, _ = run(capsys, "render", video, str(tmp_path / "rows.parquet"), out_path, "--json")
    assert (code, json.loads(out)["rows"]) == (0, 6)
    assert Path(out_path).stat().st_size > 500
    assert run(capsys, "render", video, str(tmp_path / "rows.parquet"), "o.gif")[0] == 2
    assert run(capsys, "render", video, str(tmp_path / "rows.parquet"), str(tmp_path / "new" / "ö=1.mp4"))[0] == 0
    assert (tmp_path / "new" / "ö=1.mp4").stat().st_size > 500
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "render", video, str(tmp_path / "rows.parquet"), str(tmp_path / "file" / "o.mp4"))
    assert (code, err.count("\n")) == (4, 1)
    assert "file/o.mp4); a part of the path is a file" in err
    code, _, err = run(capsys, "render", "none.mp4", str(tmp_path / "rows.parquet"), out_path)
    assert (code, "no such video" in err) == (2, True)


def test_rows_of_another_video_of_the_same_name_are_not_drawn(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from specktrack.datasets.synthetic import SynthConfig, write_archive

    for name, frames in (("short", 3), ("long", 6)):
        write_archive(SynthConfig(videos=1, frames=frames, width_px=64, height_px=48), str(tmp_path / name))
    video = str(tmp_path / "short" / "videos" / "0000.mp4")
    code, _, err = run(capsys, "render", video, str(tmp_path / "long"), str(tmp_path / "o.mp4"))
    assert code == 2
    assert "these rows belong to another video: they reach frame 5, but the video has 3 frames" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "stats", ""),
        ("export", "", "x.csv", "--to", "csv"),
        ("annotate", ".", "--output", ""),
        ("data", "synth", "", "videos=1", "frames=1"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert (code, "error: an empty path: ''" in err) == (2, True), err
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ("data", "import", "badminton", str(tmp_path), str(tmp_path / "out"), "--labels-only-wh-px", "0x-1")
    code, _, err = run(capsys, *command)
    assert code == 2
    assert "labels_only_wh_px.0='0': input should be greater than 0" in err


def test_help_says_which_settings_belong_to_which_networks(capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = run(capsys, "train", "--help")
    sections = dict(part.split(":\n", 1) for part in text.split("\n\n") if ":\n" in part)
    assert "--output" in sections["options"] and "50 [100]" in " ".join(sections["options"].split())
    assert "--learning-rate N" in sections["options for windowed, repair, search and kind networks"]
    assert "--pairs.templates" in sections["options for template networks"]
    assert "--hiding.frames" in sections["options for repair networks"]


def test_what_follows_two_dashes_are_names() -> None:
    for words, sources in (
        (["--", "-a.mp4", "b=1.mp4"], ("-a.mp4", "b=1.mp4")),
        (["a.mp4", "--", "--json"], ("a.mp4", "--json")),
    ):
        config, given = parse("annotate", ["--output", "o", "--dry-run", *words])
        assert config.sources == sources and config.output == "o" and config.dry_run and not given.json


class _YoungCluster:
    """Ray's job client before the head's agent is there."""

    def __init__(self, answers: list[str]) -> None:
        self.answers = answers

    def submit_job(self, **_: object) -> str:
        answer = self.answers.pop(0)
        if answer != "job":
            raise RuntimeError(f"Request failed with status code 500: {answer}")
        return answer


def test_a_job_waits_for_the_agent_of_a_head_that_was_just_started(monkeypatch: pytest.MonkeyPatch) -> None:
    none, clock = "No available agent to submit job, please try again later.", Clock()
    monkeypatch.setattr(submit, "time", clock)
    assert submit._submitted(_YoungCluster([none] * 20 + ["job"]), "x", None) == "job" and clock.now_s == 1_000_020
    with pytest.raises(ConfigError, match=r"refused the job.*No available agent"):
        submit._submitted(_YoungCluster([none] * 99), "x", None)
    young = _YoungCluster(["a job of this name is there", "job"])
    with pytest.raises(ConfigError, match="of this name"):
        submit._submitted(young, "x", None)
    assert young.answers == ["job"], "what another try does not mend is not tried again"
