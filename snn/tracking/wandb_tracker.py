"""Weights & Biases, offline unless told otherwise, with the same numbers as the files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snn.errors import ConfigError, did_you_mean
from snn.tracking.files import plain
from snn.tracking.schema import TrackingConfig
from snn.tracking.tracker import Status, Tracker

MODES = ("offline", "online", "disabled")
_EXIT_CODES = {"finished": 0, "failed": 1, "interrupted": 255}


class WandbTracker(Tracker):
    """One W&B run per job, below ``<run_dir>/wandb``.

    Metrics have ``step`` as their x axis, as a metric of its own: W&B's inner counter only grows, and drops
    what a resumed stage logs again.

    Args:
        config: The ``tracking`` section of the config.

    Raises:
        ConfigError: ``tracking.mode``, or ``WANDB_MODE`` where that is not set, is no mode.
    """

    def __init__(self, config: TrackingConfig):
        super().__init__(config)
        key = "tracking.mode" if config.mode else "the environment variable WANDB_MODE"
        self._mode = config.mode or os.environ.get("WANDB_MODE") or "offline"
        if self._mode not in MODES:
            raise ConfigError(f"{key}: unknown mode {self._mode!r}; {did_you_mean(self._mode, MODES)}")
        self._run: Any = None

    def start(
        self,
        config: Mapping[str, Any],
        run_dir: Path,
        name: str = "",
        group: str | None = None,
        job_type: str | None = None,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                "tracking.trackers: 'wandb' needs the package wandb; `pip install wandb`, or tracking=files"
            ) from error
        run_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(
                mode=self._mode,  # type: ignore[arg-type]
                project=self.config.project,
                entity=self.config.entity,
                tags=list(self.config.tags or []),
                notes=self.config.notes,
                name=name or None,
                group=group,
                job_type=job_type,
                dir=str(run_dir),
                config=plain(config),
                # A run of our own: neither a user's open run nor the last job of a sweep is touched.
                reinit="create_new",
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"tracking.mode: W&B cannot start in mode {self._mode!r} ({reason}); "
                "tracking.mode=offline needs no account"
            ) from error
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if self._run is not None:
            self._run.log({**{key: _number(value) for key, value in metrics.items()}, "step": step})

    def curve(self, name: str, x_name: str, xs: Sequence[float], ys: Sequence[float]) -> None:
        if self._run is None:
            return
        self._run.define_metric(x_name, hidden=True)
        self._run.define_metric(name, step_metric=x_name)
        for x, y in zip(xs, ys):
            self._run.log({x_name: _number(x), name: _number(y)})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self._run is None:
            return
        import wandb

        # One column may hold whole numbers, fractions and gaps; W&B would refuse the mixture by default.
        self._run.log(
            {
                name: wandb.Table(
                    columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True
                )
            }
        )

    def figure(self, name: str, path: Path) -> None:
        if self._run is None:
            return
        import wandb

        self._run.log({name: wandb.Image(str(path))})

    def finish(self, summary: Mapping[str, Any], status: Status) -> None:
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            run.summary.update({**dict(_flat(summary)), "status": status})
        finally:
            run.finish(exit_code=_EXIT_CODES[status])


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    # Lists (rates per layer, curves) have tables and curves of their own.
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}/")
        elif not isinstance(item, list | tuple):
            yield f"{prefix}{key}", _number(item)


def _number(value: Any) -> Any:
    return value if isinstance(value, float | int) else plain(value)
