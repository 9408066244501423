"""TensorBoard, with the same numbers as the files: ``tensorboard --logdir outputs``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snn.errors import ConfigError
from snn.tracking.files import plain
from snn.tracking.schema import TrackingConfig
from snn.tracking.table import markdown_table
from snn.tracking.tracker import RunInfo, Status, Tracker


class TensorBoardTracker(Tracker):
    """Event files below ``<run_dir>/tensorboard``.

    Scalars hold double precision. Curves over time steps have the time step where others have the step. Tables
    are texts. The config and the final figures go to the tab «HParams», where runs of a sweep are compared.

    Args:
        config: The ``tracking`` section of the config.
        keep_until_step: Where a resumed run goes on: TensorBoard forgets what it was told of later steps.
    """

    def __init__(self, config: TrackingConfig, keep_until_step: int | None = None):
        super().__init__(config, keep_until_step)
        self._writer: Any = None
        self._config: Mapping[str, Any] = {}

    def start(self, run: RunInfo) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "tracking.trackers: 'tensorboard' needs the package tensorboard; `pip install tensorboard`, or "
                "tracking=files"
            ) from error
        # TensorBoard drops what it knows from this step on; at the first time it only learns that runs begin so.
        first = 0 if self.keep_until_step is None else self.keep_until_step + 1
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=first)
        self._config = run.config

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._scalar(name, value, step)

    def curve(self, name: str, x_name: str, xs: Sequence[int], ys: Sequence[float]) -> None:
        for x, y in zip(xs, ys):
            self._scalar(name, y, x)

    def curves(self, name: str, x_name: str, xs: Sequence[int], ys: Mapping[str, Sequence[float]]) -> None:
        for one, values in ys.items():
            self.curve(f"{name}/{one}", x_name, xs, values)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self._writer is not None:
            self._writer.add_text(name, markdown_table(columns, rows))

    def confusion(self, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
        rows = [[label, *row] for label, row in zip(labels, counts)]
        self.table("confusion", ["label", *(f"taken for {label}" for label in labels)], rows)

    def figure(self, name: str, path: Path) -> None:
        if self._writer is None:
            return
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            self._writer.add_image(name, np.asarray(picture.convert("RGB")), dataformats="HWC")

    def finish(self, summary: Mapping[str, Any], status: Status) -> None:
        if self._writer is None:
            return
        from torch.utils.tensorboard.summary import hparams

        writer, self._writer = self._writer, None
        final = {f"final/{key}": float(x) for key, x in _flat(summary.get("results") or {}) if _is_number(x)}
        try:
            # As SummaryWriter.add_hparams, which would put them into a run of their own.
            for part in hparams(dict(_flat(self._config)), final):
                writer.file_writer.add_summary(part)
            for name, value in final.items():
                writer.add_scalar(name, value, new_style=True, double_precision=True)
            writer.add_text("status", status)
        finally:
            writer.close()

    def _scalar(self, name: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, float(value), step, new_style=True, double_precision=True)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}/")
        elif isinstance(item, bool | int | float | str):
            yield f"{prefix}{key}", item
        elif item is not None:
            yield f"{prefix}{key}", str(plain(item))
