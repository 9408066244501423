"""Names for the things that configs and checkpoints choose.

A registry maps a name to ``"module:attribute"`` and imports nothing until the name is used, so listing names
is free and a checkpoint, which holds names only, can never run code of its own.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from importlib import import_module
from typing import Any

from snn.errors import ConfigError, did_you_mean


class Registry:
    """Lazy name → object table for one kind of thing.

    Args:
        kind: What the names stand for, as the config key says it, e.g. ``"neuron"``.
        targets: Name → ``"module:attribute"``.

    Example:
        >>> numbers = Registry("number", {"pi": "math:pi"})
        >>> round(numbers.get("pi"), 2)
        3.14
    """

    def __init__(self, kind: str, targets: dict[str, str]):
        self.kind = kind
        self._targets: dict[str, Any] = dict(targets)

    def add(self, name: str, target: Any) -> None:
        """Add a name of your own; ``target`` is ``"module:attribute"`` or the object itself."""
        if name in self._targets:
            raise ConfigError(f"{self.kind}: the name {name!r} is taken")
        self._targets[name] = target

    def get(self, name: str) -> Any:
        """Return the object called ``name``.

        Raises:
            ConfigError: No such name; the message suggests the nearest.
        """
        if name not in self._targets:
            raise ConfigError(f"{self.kind}: unknown name {name!r}; {did_you_mean(str(name), self._targets)}")
        target = self._targets[name]
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            target = getattr(import_module(module), attribute)
        return target

    def names(self, pattern: str = "*") -> list[str]:
        """Sorted names that match a shell-style pattern."""
        return sorted(fnmatch.filter(self._targets, pattern))

    def __contains__(self, name: object) -> bool:
        return name in self._targets


def accepted(function: Callable[..., Any]) -> list[str]:
    """Names of the keyword arguments that ``function`` (or a class) takes."""
    import inspect

    return [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
    ]
