"""Weights & Biases, offline unless told otherwise, with the same numbers as the files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from snn.errors import ConfigError, did_you_mean
from snn.tracking.files import plain
from snn.tracking.schema import TrackingConfig
from snn.tracking.tracker import RunInfo, Status, Tracker

MODES = ("offline", "online", "disabled")
_EXIT_CODES = {"finished": 0, "failed": 1, "interrupted": 255}


class WandbTracker(Tracker):
    """One W&B run per job, below ``<run_dir>/wandb``.

    Metrics have ``step`` as their x axis, as a metric of its own: W&B's inner counter only grows, and drops
    what a resumed stage logs again.

    Args:
        config: The ``tracking`` section of the config.
        keep_until_step: Of no use here: an offline run cannot go on, so a resumed one is a run of its own.

    Raises:
        ConfigError: ``tracking.mode``, or ``WANDB_MODE`` where that is not set, is no mode.
    """

    def __init__(self, config: TrackingConfig, keep_until_step: int | None = None):
        super().__init__(config, keep_until_step)
        key = "tracking.mode" if config.mode else "the environment variable WANDB_MODE"
        self._mode = config.mode or os.environ.get("WANDB_MODE") or "offline"
        if self._mode not in MODES:
            raise ConfigError(f"{key}: unknown mode {self._mode!r}; {did_you_mean(self._mode, MODES)}")
        self._run: Any = None

    def start(self, run: RunInfo) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                "tracking.trackers: 'wandb' needs the package wandb; `pip install wandb`, or tracking=files"
            ) from error
        run.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(
                mode=self._mode,  # type: ignore[arg-type]
                project=self.config.project,
                entity=self.config.entity,
                tags=list(self.config.tags or []),
                notes=self.config.notes,
                name=run.name or None,
                group=run.group,
                job_type=run.kind,
                dir=str(run.folder),
                config=plain(run.config),
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

    def curve(self, name: str, x_name: str, xs: Sequence[int], ys: Sequence[float]) -> None:
        self._log_over(x_name, xs, {name: ys})

    def curves(self, name: str, x_name: str, xs: Sequence[int], ys: Mapping[str, Sequence[float]]) -> None:
        self._log_over(x_name, xs, {f"{name}/{one}": values for one, values in ys.items()})
        # The same in one piece, for heat maps.
        rows = [[one, x, y] for one, values in ys.items() for x, y in zip(xs, values)]
        self.table(f"{name}_table", ["name", x_name, "value"], rows)

    def _log_over(self, x_name: str, xs: Sequence[int], ys: Mapping[str, Sequence[float]]) -> None:
        if self._run is None:
            return
        self._run.define_metric(x_name, hidden=True)
        for name in ys:
            self._run.define_metric(name, step_metric=x_name)
        for x, *values in zip(xs, *ys.values()):
            self._run.log({x_name: x} | {name: _number(y) for name, y in zip(ys, values)})

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

    def confusion(self, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
        if self._run is None:
            return
        import wandb

        # W&B's own chart takes single samples; its table of counts says the same.
        columns: list[str | int] = ["Actual", "Predicted", "nPredictions"]
        rows: list[Any] = [
            [actual, predicted, count]
            for actual, row in zip(labels, counts)
            for predicted, count in zip(labels, row)
        ]
        chart = wandb.plot_table(
            "wandb/confusion_matrix/v1",
            wandb.Table(columns=columns, data=rows),
            {str(column): column for column in columns},
            {"title": "Confusion matrix"},
        )
        self._run.log({"confusion": chart})

    def page(self, name: str, path: Path) -> None:
        if self._run is None:
            return
        import wandb

        self._run.log({name: wandb.Html(path.read_text("utf-8"))})

    def checkpoint(self, folder: Path, made: bool) -> None:
        if self._run is None or not self.config.checkpoints or self._mode == "disabled":
            return
        artifact = _artifact(folder)
        if artifact is None:
            return
        if made:
            self._run.log_artifact(artifact, aliases=["latest"])
        elif self._mode == "online":
            self._run.use_artifact(artifact)
        else:
            # The public method refuses offline runs, although their record can say it and `wandb sync` uploads it.
            self._run._log_artifact(artifact, use_after_commit=True)

    def finish(self, summary: Mapping[str, Any], status: Status) -> None:
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            run.summary.update({**dict(_flat(summary)), "status": status})
        finally:
            run.finish(exit_code=_EXIT_CODES[status])


def _artifact(folder: Path) -> Any:
    """The checkpoint in a folder, a run's or its own, as an artifact; ``None`` if there is none.

    Its name follows from what it holds, so that the run that made it and the one that starts from it mean the same.
    """
    import wandb

    found = [place for place in (folder, folder / "checkpoint") if (place / "model.yaml").is_file()]
    if not found:
        return None
    about = yaml.safe_load((found[0] / "model.yaml").read_text("utf-8"))
    run = about.get("about", {}).get("lineage", {}).get("config_hash")
    parts = [about["model"]["name"], about["stage"], run[:8] if run else None]
    artifact = wandb.Artifact("-".join(part for part in parts if part), "model", metadata=plain(about))
    for path in sorted(found[0].rglob("*")):
        if path.is_file():
            # «immutable»: the checkpoint lies in the run's folder, and W&B need not copy it.
            artifact.add_file(str(path), name=path.relative_to(found[0]).as_posix(), policy="immutable")
    return artifact


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    # Lists (rates per layer, curves) have tables and curves of their own.
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}/")
        elif not isinstance(item, list | tuple):
            yield f"{prefix}{key}", _number(item)


def _number(value: Any) -> Any:
    return value if isinstance(value, float | int) else plain(value)
