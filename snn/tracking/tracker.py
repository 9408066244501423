"""Trackers: where a run's numbers go while it runs. Files always; Weights & Biases, TensorBoard where asked for.

    with create_trackers(config.tracking) as trackers:
        trackers.start(RunInfo(config, folder, name="demo", kind="train"))
        trackers.log({"train/loss": 0.69}, step=1)
        trackers.summary["results"] = ...
        trackers.finish()

Whatever happens in the body, every tracker is closed and ``summary.json`` says how the run ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from snn.errors import ConfigError
from snn.registry import Registry
from snn.tracking.schema import TrackingConfig

Status = Literal["finished", "failed", "interrupted"]

TRACKERS = Registry(
    "tracking.trackers",
    {
        "files": "snn.tracking.files_tracker:FilesTracker",
        "live": "snn.tracking.live_tracker:LiveTracker",
        "tensorboard": "snn.tracking.tensorboard_tracker:TensorBoardTracker",
        "wandb": "snn.tracking.wandb_tracker:WandbTracker",
    },
)


@dataclass(frozen=True)
class RunInfo:
    """What is recorded.

    Args:
        config: The whole resolved config, as plain dicts.
        folder: The run's.
        name: Of the run.
        group: Name of the sweep that the run belongs to.
        kind: ``train``, ``convert`` or ``evaluate``.
    """

    config: Mapping[str, Any]
    folder: Path
    name: str = ""
    group: str | None = None
    kind: str | None = None


class Tracker:
    """One place where a run is recorded. Subclasses override what they can keep and ignore the rest.

    Args:
        config: The ``tracking`` section of the config.
        keep_until_step: Where a resumed run goes on; what it had recorded of later steps does not count.
    """

    def __init__(self, config: TrackingConfig, keep_until_step: int | None = None):
        self.config, self.keep_until_step = config, keep_until_step

    def start(self, run: RunInfo) -> None:
        """Begin the record."""

    def enter(self, part: str) -> None:
        """Say what the run does from now on; parts may lie within parts."""

    def leave(self, part: str) -> None:
        """Say that the part that was entered last is over."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record metrics of one step; a step that is logged twice keeps both."""

    def curve(self, name: str, x_name: str, xs: Sequence[int], ys: Sequence[float]) -> None:
        """Record a curve over something other than the step, such as accuracy over time steps."""

    def curves(self, name: str, x_name: str, xs: Sequence[int], ys: Mapping[str, Sequence[float]]) -> None:
        """Record many curves over the same, such as the spike rate of every layer; a heat map, too."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table."""

    def confusion(self, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
        """Record how many samples of each class (rows) were taken for which (columns)."""

    def figure(self, name: str, path: Path) -> None:
        """Record a figure that lies in a PNG file."""

    def page(self, name: str, path: Path) -> None:
        """Record an HTML page that needs nothing else."""

    def checkpoint(self, folder: Path, made: bool) -> None:
        """Record a checkpoint's folder: one that the run has made, or the one that it started from."""

    def finish(self, summary: Mapping[str, Any], status: Status) -> None:
        """End the record."""


class Trackers(Tracker):
    """Several trackers as one, and a context manager that never leaves one open.

    If the body raises, the run is recorded as failed (interrupted for Ctrl-C) with what :attr:`summary`
    holds so far, and the exception goes on.

    Args:
        trackers: The first one that raises in :meth:`finish` decides what is raised; the others are closed
            all the same.

    Attributes:
        summary: What ``summary.json`` will hold. Fill it as results come in, so that a failure keeps what
            was done.
    """

    def __init__(self, trackers: Sequence[Tracker]):
        self.trackers = list(trackers)
        self.summary: dict[str, Any] = {}
        self.run_dir: Path | None = None
        self.finished: Status | None = None

    def start(self, run: RunInfo) -> None:
        self.run_dir = run.folder
        for tracker in self.trackers:
            tracker.start(run)

    def enter(self, part: str) -> None:
        self._each(lambda tracker: tracker.enter(part))

    def leave(self, part: str) -> None:
        self._each(lambda tracker: tracker.leave(part))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self._each(lambda tracker: tracker.log(metrics, step))

    def curve(self, name: str, x_name: str, xs: Sequence[int], ys: Sequence[float]) -> None:
        _check_length(name, x_name, xs, ys)
        self._each(lambda tracker: tracker.curve(name, x_name, xs, ys))

    def curves(self, name: str, x_name: str, xs: Sequence[int], ys: Mapping[str, Sequence[float]]) -> None:
        for one, values in ys.items():
            _check_length(f"{name}/{one}", x_name, xs, values)
        self._each(lambda tracker: tracker.curves(name, x_name, xs, ys))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        rows = [list(row) for row in rows]
        if wrong := next((row for row in rows if len(row) != len(columns)), None):
            raise ValueError(f"table {name!r}: {len(columns)} columns, but a row of {len(wrong)}: {wrong!r}")
        self._each(lambda tracker: tracker.table(name, columns, rows))

    def confusion(self, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
        self._each(lambda tracker: tracker.confusion(labels, counts))

    def figure(self, name: str, path: Path | str) -> None:
        self._each(lambda tracker: tracker.figure(name, Path(path)))

    def page(self, name: str, path: Path | str) -> None:
        self._each(lambda tracker: tracker.page(name, Path(path)))

    def checkpoint(self, folder: Path | str, made: bool) -> None:
        self._each(lambda tracker: tracker.checkpoint(Path(folder), made))

    def finish(self, summary: Mapping[str, Any] | None = None, status: Status = "finished") -> None:
        """Write ``summary.json`` and the report, hand figures and tables to every tracker, close them all.

        Args:
            summary: Added to :attr:`summary`.
            status: How the run ended.
        """
        self.summary.update(summary or {})
        self.summary = {**self.summary, "status": status}
        self.finished = status
        steps: list[Callable[[], None]] = []
        if self.run_dir is not None:
            steps.append(self._publish)
        steps += [lambda tracker=tracker: tracker.finish(self.summary, status) for tracker in self.trackers]  # type: ignore[misc]
        self._all(steps)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (isinstance(error, SystemExit) and not error.code):
            if self.finished is None:
                self.finish()
            return
        interrupted = issubclass(kind, KeyboardInterrupt)
        message = " ".join(str(error).split()) or kind.__name__
        self.summary["error"] = "interrupted" if interrupted else f"{kind.__name__}: {message}"
        try:
            self.finish(status="interrupted" if interrupted else "failed")
        except Exception:
            # The body's own exception is the one to see; this one must not take its place.
            logging.getLogger(__name__).warning("the record of the failed run is incomplete", exc_info=True)

    def _publish(self) -> None:
        from snn.tracking.files import write_json
        from snn.tracking.publish import publish
        from snn.tracking.report import write_run_report

        assert self.run_dir is not None
        self.enter("report")
        try:
            write_json(self.run_dir / "summary.json", self.summary)
            publish(self, self.summary, write_run_report(self.run_dir).figures, self.run_dir)
        finally:
            self.leave("report")

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in self.trackers:
            call(tracker)

    @staticmethod
    def _all(steps: Sequence[Callable[[], None]]) -> None:
        errors = []
        for step in steps:
            try:
                step()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


def _check_length(name: str, x_name: str, xs: Sequence[Any], ys: Sequence[Any]) -> None:
    if len(xs) != len(ys):
        raise ValueError(f"curve {name!r}: {len(xs)} values of {x_name}, {len(ys)} of the curve")


def create_trackers(
    config: TrackingConfig | Mapping[str, Any] | None = None, keep_until_step: int | None = None
) -> Trackers:
    """Build the trackers that a config names; nothing is written before :meth:`Trackers.start`.

    Args:
        config: The ``tracking`` section, as the schema's dataclass or any mapping with its keys.
        keep_until_step: See :class:`Tracker`.

    Raises:
        ConfigError: An unknown tracker, mode or key.
    """
    if config is None:
        config = TrackingConfig()
    elif isinstance(config, Mapping):
        from snn.errors import did_you_mean

        known = TrackingConfig.__dataclass_fields__
        for key in config:
            if key not in known:
                raise ConfigError(f"tracking.{key}: no such key; {did_you_mean(str(key), known)}")
        config = TrackingConfig(**{str(key): value for key, value in config.items()})
    always = ["files", "live"] if config.live else ["files"]
    names = dict.fromkeys([*always, *(config.trackers or [])])
    return Trackers([TRACKERS.get(name)(config, keep_until_step) for name in names])
