"""The same weights in a network of other arguments."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from snn.errors import CheckpointError
from snn.models.registry import architecture_of, create_model

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)


def rebuilt(model: nn.Module, **changes: Any) -> nn.Module:
    """A network with some arguments changed, and the weights of ``model``; itself if nothing changes.

    The names of what is random still, a new head, are in its attribute ``untrained``.

    Args:
        model: A float or natively spiking network made by :func:`snn.create_model`.
        **changes: Arguments that no weight's shape depends on, such as ``T``, or ``num_classes``, which makes the head
            new.

    Raises:
        ConfigError: The model takes no such argument.
        CheckpointError: The weights do not fit the changed network.
    """
    spec: Any = model.spec
    name, args = spec["name"], dict(spec["args"])
    changed = {key: value for key, value in changes.items() if args.get(key) != value}
    if not changed:
        return model
    new = create_model(name, **(args | changed))
    head = architecture_of(name).head if "num_classes" in changed else ()
    kept = {key: value for key, value in model.state_dict().items() if not key.startswith(head)}
    try:
        found = new.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise CheckpointError(
            f"model={name} cannot take {_listed(changed)}: {' '.join(str(error).split())[:300]}"
        ) from error
    missing = [key for key in found.missing_keys if not key.startswith(head)]
    if missing or found.unexpected_keys:
        raise CheckpointError(
            f"model={name} cannot take {_listed(changed)}: {(missing or found.unexpected_keys)[0]} does not fit"
        )
    new.untrained = found.missing_keys
    log.info("%s: changed to %s%s", name, _listed(changed), "; its head is new" if head else "")
    return new.to(next(model.parameters()).device).train(model.training)


def _listed(changes: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in changes.items())
