"""A windowed network's outputs window by window, before anything joins them."""

import numpy as np
import pyarrow as pa
import torch

from specktrack.annotating.clips import annotate_clip
from specktrack.errors import ConfigError
from specktrack.models.checkpoint import Model
from specktrack.models.heatmap.detector import Detector
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.schema import Clip, VideoRef
from specktrack.tracking.windowed.session import WindowedTracker, Windowing
from specktrack.video.process import DecoderProcess

THRESHOLD = 0.5
"""A heatmap whose peak is not above it shows no object; published decodings find nothing in such a one themselves."""


class _Recorder(Detector):
    """A detector that keeps what each window alone says."""

    def __init__(self, detector: Detector) -> None:
        vars(self).update(vars(detector))
        self.windows: list[tuple[torch.Tensor, torch.Tensor]] = []

    def heatmaps(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """As Detector.heatmaps; windows come in order, one frame apart."""
        found = super().heatmaps(windows_BTHWC)
        for window in found:
            xy, score = self.decode(window)
            self.windows.append((xy[:, 0], score[:, 0]))
        return found


class WindowRunner:
    """Runs a model over all windows of a video, one frame apart."""

    def __init__(self, model: Model, *, input_wh: tuple[int, int] | None = None) -> None:
        config = model.config
        if not isinstance(config, WindowedConfig):
            raise ConfigError(f"a {config.family} network has no windows to count", model.card.name)
        self._config = config
        windowing = Windowing(
            input_wh=input_wh, overlap=config.frames_in, candidates=1, decoding=config.published_decoding
        )
        self._recorder: _Recorder | None = None
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tracker = WindowedTracker(model, device=device, config=windowing, through=self._record)

    def _record(self, detector: Detector) -> Detector:
        self._recorder = _Recorder(detector)
        return self._recorder

    def run(self, ref: VideoRef) -> pa.Table:
        """Columns window, frame, x, y (source px; null where a heatmap shows nothing) and score. MediaError."""
        assert self._recorder is not None
        self._recorder.windows.clear()
        with DecoderProcess() as decoder:
            info = decoder.probe(ref)
            result = annotate_clip(self._tracker, Clip(video=ref, start=0, stop=info.frames), info, decoder)
        if result.error is not None:
            raise result.error
        unseen = self._config.frames_in - self._config.frames_out
        viewport = self._tracker.viewport(info.size_wh_px)
        threshold = THRESHOLD if self._config.published_decoding == "peaks" else 0.0
        tables = [_table(np.zeros((0, 2)), np.zeros(0), 0, 0)]
        for start, (xy_net, score) in enumerate(self._recorder.windows, -unseen):  # from a window of copies on
            if 0 <= start <= info.frames - self._config.frames_in:
                seen = score.numpy() > threshold
                xy_px = np.where(seen[:, None], viewport.to_source(xy_net.numpy()), np.nan)
                tables.append(_table(xy_px, score.numpy(), start, start + unseen))
        return pa.concat_tables(tables)


def _table(xy_px: np.ndarray, score: np.ndarray, window: int, first_frame: int) -> pa.Table:
    n = len(score)
    columns = {
        "window": np.full(n, window),
        "frame": first_frame + np.arange(n),
        "x": pa.array(xy_px[:, 0], from_pandas=True, type=pa.float32()),
        "y": pa.array(xy_px[:, 1], from_pandas=True, type=pa.float32()),
        "score": pa.array(score, pa.float32()),
    }
    return pa.table(columns)
