"""What the config group ``tracking`` may say."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrackingConfig:
    """Where a run is recorded besides its own folder.

    Args:
        trackers: Names of trackers; ``files`` is always on, whether it is named or not.
        project: W&B project.
        entity: W&B user or team; ``None`` for the account's default.
        mode: ``offline`` (needs no account; upload later with ``wandb sync``), ``online`` or ``disabled``;
            ``None`` takes the environment variable ``WANDB_MODE``, and ``offline`` where that is not set.
        tags: Words to find the run by.
        notes: One line about why the run was made.
    """

    trackers: list[str] = field(default_factory=lambda: ["files"])
    project: str = "snn"
    entity: str | None = None
    mode: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
