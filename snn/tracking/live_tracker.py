"""The run as a person sees it who is watching: stage, progress, figures of the moment, time left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snn.progress import watched
from snn.tracking.schema import TrackingConfig
from snn.tracking.tracker import RunInfo, Status, Tracker

if TYPE_CHECKING:
    from snn.live import LiveView


class LiveTracker(Tracker):
    """Shows the run on the terminal; does nothing where there is none, where the log is enough.

    Args:
        config: The ``tracking`` section of the config.
        keep_until_step: Of no use here.
    """

    def __init__(self, config: TrackingConfig, keep_until_step: int | None = None):
        super().__init__(config, keep_until_step)
        self._view: LiveView | None = None

    def start(self, run: RunInfo) -> None:
        if not watched() or run.config.get("plan"):
            return
        from snn.live import LiveView

        stages = run.config.get("training", {}).get("stages", []) if run.kind == "train" else []
        self._view = LiveView(" · ".join(text for text in (run.name, run.kind, run.group) if text), stages)
        self._view.__enter__()

    def enter(self, part: str) -> None:
        if self._view is not None:
            self._view.enter(part)

    def leave(self, part: str) -> None:
        if self._view is not None:
            self._view.leave()

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if self._view is not None:
            self._view.log(metrics)

    def finish(self, summary: Mapping[str, Any], status: Status) -> None:
        if self._view is not None:
            view, self._view = self._view, None
            view.__exit__()
