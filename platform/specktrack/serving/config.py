"""Settings of a server: those of the application, and those of ``specktrack serve`` around them."""

import ipaddress
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from specktrack.config import Config, VerbConfig, validated
from specktrack.errors import ConfigError
from specktrack.models.entry import Family
from specktrack.models.zoo import DEFAULT_MODEL, ModelPlace
from specktrack.storage.places import Place
from specktrack.tracking.following import Following, Manner, Reading

IMPORT_PATH = "specktrack.serving:build"


class Limits(Config):
    """Ceilings of one request; a request can stay below them and never raise them."""

    body_bytes: int = Field(default=200_000_000, ge=1)
    """Bytes of one uploaded or fetched clip."""
    batch_bytes: int = Field(default=2_000_000_000, ge=1)
    """Bytes of all clips in one batch."""
    pixels: int = Field(default=9_000_000, ge=1)
    """Pixels of one picture; 8.3 million are 4K."""
    frames: int = Field(default=36_000, ge=1)
    """Frames of one clip: ten minutes at 60 frames/s. Use a batch for longer ones."""
    stream_frames: int = Field(default=2_592_000, ge=1)
    """Frames of one stream or session: a day at 30 frames/s. Memory does not grow with it."""
    upload_s: float = Field(default=120.0, gt=0)
    """Seconds until an upload or a fetched clip must be complete."""
    stall_s: float = Field(default=15.0, gt=0)
    """Seconds without a byte from the client, or from the host that a clip is fetched from."""
    decode_stall_s: float = Field(default=30.0, gt=0)
    """Seconds without a frame from the decoder."""
    request_s: float = Field(default=600.0, gt=0)
    """Seconds from a complete clip to its rows. A clip that would take longer becomes a batch, if batches are enabled.
    Rows that are streamed as they become final have no time limit."""
    decode_memory_bytes: int = Field(default=4_000_000_000, ge=500_000_000)
    """Address space of one decoding process."""
    picture_bytes: int = Field(default=8_000_000, ge=1)
    """Bytes of one picture of a stream or session."""
    overlap: int = Field(default=8, ge=1)
    """Windows that see each frame, if a request sets the overlap."""
    input_pixels: int = Field(default=1_000_000, ge=256)
    """Pixels of the network's input, if a request sets the size; 0.6 million are 1024x576."""
    sessions: int = Field(default=32, ge=1)
    """Concurrent streams and sessions on one replica."""
    session_idle_s: float = Field(default=60.0, gt=0)
    """Seconds after which a session without a frame is closed."""


class Access(Config):
    """Who may call, what may be read for a caller, and where a batch may write."""

    api_keys_file: Place | None = None
    """File with one key per line. Without it, everyone who reaches the server may call it, so the server only binds a
    loopback address."""
    hosts: tuple[str, ...] = ()
    """Hosts, as ``host`` or ``host:port``, that ``{"uri": "https://..."}`` may name; none by default."""
    schemes: tuple[Literal["https", "http"], ...] = ("https",)
    """URL schemes allowed for fetched clips."""
    networks: tuple[str, ...] = ()
    """Networks (CIDR) where these hosts may be, in addition to the public internet; for example ``10.2.0.0/16``."""
    sources: tuple[Place, ...] = ()
    """Folders and s3:// prefixes from which requests may read clips; none by default."""
    outputs: tuple[Place, ...] = ()
    """Folders and s3:// prefixes to which batches may write; none by default, which disables batches."""
    cameras: tuple[str, ...] = ()
    """Hosts, as ``host`` or ``host:port``, whose cameras a stream may use (rtsp, http, https); none by default. Their
    address must be public or in ``networks``. They are trusted: their video is decoded in the ingress."""
    devices: tuple[Place, ...] = ()
    """The server's own cameras that a stream may use, for example ``/dev/video0``."""
    webhooks: tuple[str, ...] = ()
    """Hosts, as ``host`` or ``host:port``, that a batch may notify when it ends; ``schemes`` and ``networks`` apply
    too."""
    webhook_key_file: Place | None = None
    """File with the secret that signs these notifications."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may call the server (CORS), for example ``https://example.org``; none by default."""

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parts = urlsplit(text)
            if parts.scheme not in ("http", "https") or text != f"{parts.scheme}://{parts.netloc}":
                raise ValueError(f"an origin must be https://host or https://host:port, not {text!r}")
        return value

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> Self:
        if self.webhooks and self.webhook_key_file is None:
            raise ValueError("webhooks must be signed: set webhook_key_file")
        return self

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ipaddress.ip_network(text)
        return value


class ServeConfig(Manner):
    """The application's settings: ``args:`` in serve_config.yaml. How videos are followed goes for all models that can
    use it; a request may choose how its own are read."""

    models: tuple[ModelPlace, ...] = Field(default=(DEFAULT_MODEL,), min_length=1)
    """Packaged models or paths of checkpoints; the first is the default for requests."""
    limits: Limits = Limits()
    access: Access = Access()
    batch_windows: int = Field(default=8, ge=1)
    """Maximum number of windows, from any clips and streams, that share one forward pass."""
    small_batch_videos: int = Field(default=4, ge=0)
    """A batch of at most this many videos runs inside its replica; larger ones run on Ray Data."""
    trusted: bool = False
    """Allow a public address without keys, because something in front of the server checks callers."""

    def reading(self, asked: Reading) -> Reading:
        """The server's reading but for what a request chose; ConfigError beyond the ceilings."""
        chosen = {name: getattr(asked, name) for name in asked.model_fields_set & Reading.model_fields.keys()}
        own = {name: getattr(self, name) for name in Reading.model_fields}
        reading = validated(Reading, own | chosen, "the request")
        if "overlap" in chosen and reading.overlap > self.limits.overlap:
            raise ConfigError("more windows per frame than this server allows", reading.overlap, "overlap",
                              f"at most {self.limits.overlap}")  # fmt: skip
        if "input_wh" in chosen and math.prod(reading.input_wh or ()) > self.limits.input_pixels:
            raise ConfigError("a larger size than this server allows", reading.input_wh, "input_wh",
                              f"at most {self.limits.input_pixels:,} pixels")  # fmt: skip
        return reading

    def following(self, model: str, family: Family, reading: Reading | None = None) -> Following:
        """How a model of the server follows, with the reading that a request came to or else the server's."""
        chosen = {name: getattr(reading or self, name) for name in Reading.model_fields}
        own = {name: getattr(self, name) for name in Manner.model_fields.keys() - chosen.keys()}
        manner = Manner(**own, **chosen)
        return Following.of(model, manner.for_family(family))


class ServerConfig(ServeConfig, VerbConfig):
    """Start the HTTP server: clips, live streams, sessions and batches."""

    verb: ClassVar[str] = "serve"

    host: str = "127.0.0.1"
    """Address to listen on; one that others can reach needs access.api_keys_file."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""
    address: str = "auto"
    """Ray cluster: auto (RAY_ADDRESS, or one running here, else a new one), local, or the address of one that this
    machine belongs to."""
    deployments: tuple[dict[str, Any], ...] = ()
    """Ray Serve's settings per deployment (replicas, autoscaling, resources), as in serve_config.yaml."""

    @classmethod
    def settings_in(cls, content: dict[str, Any], place: str) -> dict[str, Any]:
        """The verb's settings in a Ray Serve file with our application, or in a file of plain settings."""
        if "applications" not in content:
            return content
        passed_on = {"proxy_location": "EveryNode", "http_options": None, "applications": None}
        _check_passed_on(content, passed_on, place, "")
        applications = content["applications"] or []
        if len(applications) != 1 or applications[0].get("import_path") != IMPORT_PATH:
            named = [each.get("import_path") for each in applications]
            raise ConfigError("a server runs one application", named, place, f"name one with import_path {IMPORT_PATH}")
        http = content.get("http_options") or {}
        _check_passed_on(http, {"host": None, "port": None}, place, "http_options.")
        ours = {"name": None, "route_prefix": "/", "import_path": None, "args": None, "deployments": None}
        _check_passed_on(applications[0], ours, place, "applications.")
        found = dict(applications[0].get("args") or {})
        found |= {key: http[key] for key in ("host", "port") if key in http}
        return found | {"deployments": applications[0].get("deployments") or ()}

    @property
    def application(self) -> ServeConfig:
        """The part that goes to the application."""
        return ServeConfig.model_validate(self.model_dump(include=set(ServeConfig.model_fields)))


def _check_passed_on(content: Mapping[str, Any], known: Mapping[str, Any], place: str, above: str) -> None:
    """ConfigError for what is Ray Serve's own and ``specktrack serve`` would drop; ``known`` has what may be said."""
    for key, value in content.items():
        if key not in known or known[key] not in (None, value):
            what = f"`specktrack serve` does not pass on {above}{key}"
            raise ConfigError(what, value, place, "leave it out, or use the file with `serve deploy`")


def parse_args(args: Mapping[str, Any]) -> ServeConfig:
    """The application's settings from the ``args:`` of a Serve file; ConfigError names an unknown key."""
    return validated(ServeConfig, dict(args), "args of the application in serve_config.yaml")


def is_public(host: str) -> bool:
    """Whether others than this machine can reach an address that is listened on."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def check_cluster(address: str, environment: Mapping[str, str]) -> None:
    """ConfigError for a cluster elsewhere: its nodes listen for themselves, and nobody here sees whether they do."""
    named = environment.get("RAY_ADDRESS", "") if address == "auto" else address
    if named.startswith("ray://"):
        what, remedy = "a server must be started on a node of its cluster", "run it there, or use: serve deploy FILE"
        raise ConfigError(what, named, "address", remedy)


def check_public_bind(host: str, config: ServeConfig) -> None:
    """ConfigError if ``host`` is reached by others and no key is asked of them."""
    if is_public(host) and config.access.api_keys_file is None and not config.trusted:
        raise ConfigError(
            "a server that others can reach needs keys",
            host,
            "host",
            "set access.api_keys_file, or listen on 127.0.0.1",
        )
