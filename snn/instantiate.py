"""The one place where a config names code."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from snn.errors import ConfigError

#: Where a ``_target_`` may point. Everything else is chosen by registry name.
ALLOWED_TARGETS = ("torch.optim.", "snn.training.schedule.", "snn.training.bert_adam.")


def instantiate(config: dict[str, Any], where: str, **arguments: Any) -> Any:
    """Call the ``_target_`` of a config section with its other keys and ``arguments``.

    The only place where a config names code, and only code below :data:`ALLOWED_TARGETS`.

    Raises:
        ConfigError: No target, one that is not allowed or does not exist, or arguments that it does not take.
    """
    settings = dict(config)
    target = settings.pop("_target_", None)
    if not isinstance(target, str) or not target.startswith(ALLOWED_TARGETS):
        raise ConfigError(
            f"{where}._target_: {target!r} is not allowed; it must begin with {' or '.join(ALLOWED_TARGETS)}"
        )
    module, _, attribute = target.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError):
        raise ConfigError(f"{where}._target_: there is no {target}") from None
    try:
        return found(**arguments, **settings)
    except ConfigError:  # it names its key
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from None
