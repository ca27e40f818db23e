"""Whether a run's data are held in memory by every node or streamed: what fits is held, for that is faster."""

from specktrack import telemetry
from specktrack.datasets import load_dataset
from specktrack.errors import ConfigError
from specktrack.training.config import TrainConfig
from specktrack.training.footage import prepared_at

log = telemetry.get_logger()


def settled(config: TrainConfig) -> TrainConfig:
    """With ``stream`` decided: always or never. ConfigError if data that were not prepared are to be streamed."""
    if config.stream == "always" and config.reads_ahead:
        raise ConfigError("mined data cannot be streamed", place="stream", remedy="leave out mining and decoys")
    if config.stream == "never" or (config.stream == "auto" and (config.reads_ahead or not config.sees_pictures)):
        return config.model_copy(update={"stream": "never"})
    unprepared = [uri for uri in config.data if prepared_at(uri) is None] if config.sees_pictures else []
    if config.stream == "always":
        if unprepared:
            what = "only prepared data can be streamed"
            raise ConfigError(what, unprepared[0], "data", "prepare them with 'specktrack data prepare'")
        return config
    size = 0 if unprepared else sum(decoded_bytes(uri) for uri in config.data)
    streamed = size > config.cache_bytes
    if streamed:
        log.info("data is larger than cache_gb and will be streamed", gb=round(size / 1e9, 1), most=config.cache_gb)
    return config.model_copy(update={"stream": "always" if streamed else "never"})


def decoded_bytes(uri: str) -> int:
    """Of prepared data, all frames at the size they are prepared at."""
    prepared = prepared_at(uri)
    assert prepared is not None
    size = 0
    for video in load_dataset(uri).card.videos:
        if not video.labels_only:
            source = (video.width_px, video.height_px)
            width, height = prepared.viewport(source, prepared.settings["input_wh"]).network_wh_px
            size += video.frames * width * height * 3
    return size
