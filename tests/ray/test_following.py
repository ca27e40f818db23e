"""Every way to rows follows as it is told: no route may drop one of the settings of ``Following``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.annotating import WH, tiny_model
from tests.test_template_tracking import tiny as tiny_template_model

import specktrack
from specktrack.annotating import AnnotateConfig, annotate
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import ConfigError
from specktrack.evaluate import EvaluateConfig, evaluate
from specktrack.models import zoo
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.serving.answers import Asked, BatchRequest, BatchState
from specktrack.serving.batch_records import BatchRecords
from specktrack.serving.batches import BatchReplica
from specktrack.serving.catalog import catalog
from specktrack.serving.config import Access, ServeConfig
from specktrack.serving.replica import trackers_of
from specktrack.tracking import tracker as door
from specktrack.tracking.following import Following, Reading
from specktrack.verbs.bench import BenchConfig, bench
from specktrack.verbs.demo import DemoConfig, demo

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with its labels, two models on windows, one with a template and one that searches."""
    folder = tmp_path_factory.mktemp("following")
    write_archive(SynthConfig(videos=1, frames=16, width_px=WH[0], height_px=WH[1], workers=1), str(folder / "data"))
    tiny_model(folder / "tiny.safetensors")
    for name, config in {
        "other": zoo.network_config({"name": "specknet", "frames_in": 2, "input_wh": WH, "widths": (4, 8, 8, 8)}),
        "search": zoo.network_config({"name": "global-search", "widths": (4, 4, 4, 4), "matches": (4, 4, 4)}),
        "kinds": zoo.network_config({"name": "kindnet", "input_wh": (32, 32), "widths": (4, 4, 4), "features": 4}),
    }.items():
        save_model(folder / f"{name}.safetensors", zoo.build(config).eval(), ModelCard(name=name, network=config))
    boxes = tiny_template_model()
    save_model(folder / "boxes.safetensors", boxes.network, ModelCard(name="boxes", network=boxes.config))
    return folder


def changes(folder: Path) -> dict[str, Any]:
    """Another value than the default for every setting: a new one has to be added here."""
    changed = {
        "model": str(folder / "other.safetensors"), "repair": "ballistic", "finder": str(folder / "search.safetensors"),
        "input_wh": (192, 96), "overlap": 1, "ensemble": "average", "decoding": "largest-box",
        "threshold": 0.2, "flip": True, "time_step": 0.02, "delay": "low", "engine": "eager",
        "kinds": str(folder / "kinds.safetensors"), "repair_gap": 3,
    }  # fmt: skip
    assert changed.keys() == Following.model_fields.keys()
    return changed


@contextmanager
def door_watched() -> Iterator[list[Following]]:
    """What comes to the only door in this process."""
    real, came = door.make_tracker, []

    def make_tracker(following: Following, **rest: Any) -> door.Tracker:
        came.append(following)
        return real(following, **rest)

    with pytest.MonkeyPatch.context() as patch:
        for module in [module for name, module in sys.modules.items() if name.startswith("specktrack.")]:
            if vars(module).get("make_tracker") is real:
                patch.setattr(module, "make_tracker", make_tracker)
        yield came
    assert came, "the route made no tracker by the door"


def python(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    specktrack.annotate(folder / "data", **settings)


def session(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    specktrack.open_session(**settings)


def cluster(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    annotate(AnnotateConfig(sources=(str(folder / "data"),), output=str(output), **settings), inside=True)


def judged(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    evaluate(EvaluateConfig(data=str(folder / "data"), **settings))


def judged_on_ray(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    evaluate(EvaluateConfig(data=str(folder / "data"), output=str(output), address="auto", **settings))


def measured(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    bench(BenchConfig(sources=(str(folder / "data"),), address="auto", **settings))


def shown(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    demo(DemoConfig(video=str(folder / "data"), output=str(output), **settings))


def server(folder: Path, output: Path, settings: dict[str, Any]) -> tuple[ServeConfig, str]:
    manner = {name: value for name, value in settings.items() if name != "model"}
    access = Access(sources=(str(folder / "data"),), outputs=(str(output.parent),))
    return ServeConfig(models=(settings["model"],), access=access, **manner), settings["model"]


def served(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    config, _ = server(folder, output, settings)
    make = trackers_of(config, catalog(config)[0], device="cpu", through=lambda detector: detector)
    make(config.reading(Asked()))


def asked(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    """A request chooses what it may choose; the rest is the server's."""
    chosen = {name: value for name, value in settings.items() if name in Reading.model_fields}
    config, _ = server(folder, output, {name: value for name, value in settings.items() if name not in chosen})
    make = trackers_of(config, catalog(config)[0], device="cpu", through=lambda detector: detector)
    make(config.reading(Asked(**chosen)))


def batch(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    chosen = {name: value for name, value in settings.items() if name in Reading.model_fields}
    config, model = server(folder, output, {name: value for name, value in settings.items() if name not in chosen})
    request = BatchRequest(sources=(str(folder / "data"),), output=str(output), **chosen)
    records = BatchRecords(config.access.outputs)
    record = records.create(request.sources, request.output, "it", config.reading(request))
    BatchReplica(config, {"it": model})._run(record.id, "replica")
    ended = records.get(record.id)
    assert ended is not None and ended.state is BatchState.DONE, ended


ROUTES: dict[str, Callable[[Path, Path, dict[str, Any]], None]] = {
    route.__name__: route
    for route in (python, session, cluster, judged, judged_on_ray, measured, shown, served, asked, batch)
}
ON_RAY = ("cluster", "judged_on_ray", "measured", "shown", "batch")


@pytest.fixture(scope="module", params=ROUTES)
def came(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Following]:
    """What comes to the door by one route when every setting but the finder, which few models take, is changed."""
    if request.param in ON_RAY:
        request.getfixturevalue("ray_local")
    settings = {name: value for name, value in changes(folder).items() if name != "finder"}
    with door_watched() as came:
        ROUTES[request.param](folder, tmp_path_factory.mktemp(request.param) / "out", settings)
    return came


@pytest.mark.parametrize("field", sorted(Following.model_fields.keys() - {"finder", "model"}))
def test_every_route_follows_as_it_is_told(folder: Path, came: list[Following], field: str) -> None:
    assert {getattr(following, field) for following in came} == {changes(folder)[field]}


def test_every_route_takes_the_model_it_is_told(folder: Path, came: list[Following]) -> None:
    model = changes(folder)["model"]
    assert {following.model for following in came} <= {model, Path(model).stem}


@pytest.mark.parametrize("route", sorted(ROUTES.keys() - {"batch"}))  # whose requests the server refuses before
def test_a_finder_is_followed_or_refused(folder: Path, tmp_path: Path, route: str) -> None:
    """It helps template models only: they are served, and the other routes refuse it instead of dropping it."""
    finder = changes(folder)["finder"]
    if route in ("served", "asked"):
        with door_watched() as came:
            ROUTES[route](folder, tmp_path / "out", {"model": str(folder / "boxes.safetensors"), "finder": finder})
        assert {following.finder for following in came} == {finder}
    else:
        with pytest.raises(ConfigError, match="a windowed network takes no finder"):
            ROUTES[route](folder, tmp_path / "out", {"model": str(folder / "tiny.safetensors"), "finder": finder})


@pytest.mark.parametrize("field", sorted(Following.model_fields.keys() - {"engine"}))  # which decides no row
def test_the_tracker_follows_what_comes_to_the_door(folder: Path, field: str) -> None:
    model = str(folder / ("boxes" if field == "finder" else "tiny")) + ".safetensors"
    usual = Following(model=model, repair="ballistic" if field == "repair_gap" else "none")
    changed = usual.model_copy(update={field: changes(folder)[field]})
    one, other = (door.make_tracker(following, device="cpu") for following in (usual, changed))
    if field == "model":
        assert other.stride != one.stride
    else:
        assert type(other) is not type(one) or (other.config, other.step_s) != (one.config, one.step_s)


def test_a_box_benchmark_refuses_what_its_model_cannot_use(folder: Path) -> None:
    with pytest.raises(ConfigError, match="a template network takes no overlap"):
        door.load_parts(EvaluateConfig(data="x", model=str(folder / "boxes.safetensors"), overlap=1).following)
