"""The sound of a video as plain samples, so that a video that is written again is heard again."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from specktrack.schema import VideoRef
from specktrack.video.container import MAX_DURATION_S, demuxed, packets

RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Those of AAC that players know; another rate is brought to the last."""
MOST_S = 10.0
"""One piece is no longer."""
LEAST_GAP_S = 0.05
"""Sound that is missing for longer is silence; less is how containers round their times."""


@dataclass(frozen=True)
class Sound:
    """A piece of a video's sound; the next one begins where it ends."""

    samples: np.ndarray
    """int16 [N, C], one or two channels."""
    rate_hz: int
    start_s: float
    """On the clock of the pictures."""


def read_sound(ref: VideoRef) -> Generator[Sound]:
    """The best audio stream from its first sample on, in pieces; none if there is nothing that can be decoded."""
    with demuxed(ref) as (container, _):
        stream = cast(AudioStream | None, container.streams.best("audio"))
        if stream is None or stream.codec_context is None:
            return
        rate_hz = stream.rate if stream.rate in RATES_HZ else RATES_HZ[-1]
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        done, first_s = 0, None
        for own_s, samples in _decoded(container, stream, layout, rate_hz):
            first_s = own_s if first_s is None else first_s
            missing = own_s - first_s - done / rate_hz
            while LEAST_GAP_S < missing < MAX_DURATION_S:
                silence = np.zeros((max(1, round(min(missing, MOST_S) * rate_hz)), samples.shape[1]), np.int16)
                yield Sound(silence, rate_hz, first_s + done / rate_hz)
                done += len(silence)
                missing = own_s - first_s - done / rate_hz
            yield Sound(samples, rate_hz, first_s + done / rate_hz)
            done += len(samples)


def _decoded(
    container: InputContainer, stream: AudioStream, layout: str, rate_hz: int
) -> Iterator[tuple[float, np.ndarray]]:
    """Times and samples int16 [N, C] of what can be decoded."""
    resampler, made_for = AudioResampler(), ("", "", 0)
    for packet in packets(container, stream):
        try:
            frames = stream.codec_context.decode(packet if packet is not None and packet.size else None)
        except av.FFmpegError:
            continue
        for frame in frames:
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != made_for:
                resampler, made_for = AudioResampler(format="s16", layout=layout, rate=rate_hz), kind
            own_s = frame.time
            for part in resampler.resample(frame):
                samples = part.to_ndarray().reshape(-1, 1 if layout == "mono" else 2)
                if len(samples) and own_s is not None:
                    yield own_s, samples[: round(MOST_S * rate_hz)]
