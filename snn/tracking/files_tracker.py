"""The tracker that is always on: the run's own folder."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snn.tracking.files import MetricsLog, RunFileError, plain, read_json, write_json, write_text
from snn.tracking.schema import TrackingConfig
from snn.tracking.tracker import RunInfo, Status, Tracker


class FilesTracker(Tracker):
    """Write ``config.yaml``, ``metrics.jsonl``, ``tables/*.csv`` and ``summary.json`` into the run's folder.

    Args:
        config: The ``tracking`` section of the config.
        keep_until_step: Where a resumed run goes on; later lines of the log are written again.
    """

    def __init__(self, config: TrackingConfig, keep_until_step: int | None = None):
        super().__init__(config, keep_until_step)
        self._dir: Path | None = None
        self._metrics: MetricsLog | None = None

    def start(self, run: RunInfo) -> None:
        import yaml

        self._dir = run.folder
        write_text(
            run.folder / "config.yaml", yaml.safe_dump(plain(run.config), sort_keys=False, allow_unicode=True)
        )
        if (run.folder / "summary.json").exists():
            # Until this run ends, the figures of an earlier one must not pass for its own.
            write_json(
                run.folder / "summary.json",
                {"status": "unfinished", "name": run.name, "error": "the run has not ended"},
            )
        self._metrics = MetricsLog(run.folder / "metrics.jsonl", keep_until_step=self.keep_until_step)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if self._metrics is not None:
            self._metrics.write(metrics, step)

    def curve(self, name: str, x_name: str, xs: Sequence[int], ys: Sequence[float]) -> None:
        self.table(name, [x_name, name], list(zip(xs, ys)))

    def curves(self, name: str, x_name: str, xs: Sequence[int], ys: Mapping[str, Sequence[float]]) -> None:
        self.table(name, [x_name, *ys], list(zip(xs, *ys.values())))

    def confusion(self, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
        rows = [[label, *row] for label, row in zip(labels, counts)]
        self.table("confusion", ["label", *(f"taken for {label}" for label in labels)], rows)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self._dir is None:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([plain(value) for value in row] for row in rows)
        write_text(self._dir / "tables" / f"{re.sub(r'[^A-Za-z0-9_.@-]+', '_', name)}.csv", text.getvalue())

    def finish(self, summary: Mapping[str, Any], status: Status) -> None:
        if self._metrics is not None:
            self._metrics.close()
        if self._dir is not None:
            write_json(self._dir / "summary.json", {**summary, "status": status})


def record_failure(run_dir: str | Path, error: BaseException) -> None:
    """See to it that a failed run's ``summary.json`` says so, and why; what it holds besides is kept."""
    path = Path(run_dir) / "summary.json"
    try:
        summary = read_json(path) if path.exists() else {}
    except RunFileError:
        summary = {}
    if summary.get("status") in ("failed", "interrupted"):
        return
    message = " ".join(str(error).split())
    write_json(path, {**summary, "status": "failed", "error": f"{type(error).__name__}: {message}"})
