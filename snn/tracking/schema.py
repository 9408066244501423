"""What the config group ``tracking`` may say."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrackingConfig:
    """Where a run is recorded besides its own folder.

    Args:
        trackers: Names of trackers, any number of ``files``, ``wandb`` and ``tensorboard``; ``files`` is always on,
            whether it is named or not.
        live: Whether a run is shown live, where it is watched on a terminal; otherwise there are bars alone.
        checkpoints: Whether W&B keeps the run's checkpoint as an artifact, and knows the one that it started from.
        project: W&B project.
        entity: W&B user or team; ``None`` for the account's default.
        mode: ``offline`` (needs no account; upload later with ``wandb sync``), ``online`` or ``disabled``;
            ``None`` takes the environment variable ``WANDB_MODE``, and ``offline`` where that is not set.
        tags: Words to find the run by.
        notes: One line about why the run was made.
    """

    trackers: list[str] = field(default_factory=lambda: ["files"])
    live: bool = True
    checkpoints: bool = True
    project: str = "snn"
    entity: str | None = None
    mode: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
