"""Translate the keys of a weights file into those of a network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from snn.errors import ConfigError

Value = TypeVar("Value")


def rename_keys(
    tensors: dict[str, Value],
    rules: Sequence[Any],
    known: Iterable[tuple[str, str | None]] = (),
) -> dict[str, Value]:
    r"""Rename by the user's rules, then by those of the model; in each list the first match wins.

    Args:
        tensors: Key → tensor as in the file.
        rules: Mappings or objects with ``match`` and ``to``. ``match`` is a key, or a regex for the whole key
            behind ``re:``; ``to`` may use groups (``\1``), and None leaves the tensor out. Each must match a
            key.
        known: ``(match, to)`` pairs that need not match.

    Raises:
        ConfigError: A rule that is incomplete or matches nothing, a broken regex, or two tensors under one
            name.

    Example:
        >>> rename_keys({"linear.bias": 1, "step": 2}, [{"match": r"re:linear\.(.*)", "to": r"classifier.\1"},
        ...                                             {"match": "step", "to": None}])
        {'classifier.bias': 1}
    """
    mine = [(f"model.rename[{i}]", *_fields(f"model.rename[{i}]", rule)) for i, rule in enumerate(rules)]
    used: set[str] = set()
    renamed: dict[str, Value] = {}
    for old, value in tensors.items():
        new = _apply(old, mine, used)
        new = _apply(new, [("", *pair) for pair in known], set()) if new is not None else None
        if new is None:
            continue
        if new in renamed:
            raise ConfigError(f"model.rename: two tensors would be called {new!r}, one of them {old!r}")
        renamed[new] = value
    for key, match, _ in mine:
        if key not in used:
            some = ", ".join(sorted(tensors)[:5])
            what = "no key of the weights file that no rule before it took"
            raise ConfigError(f"{key}: {match!r} matches {what}; keys: {some}, ...")
    return renamed


def _apply(name: str, rules: list[tuple[str, str, str | None]], used: set[str]) -> str | None:
    for key, match, to in rules:
        found: re.Match[str] | str | None
        try:
            if match.startswith("re:"):
                found = re.fullmatch(match.removeprefix("re:"), name)
                new = found.expand(to) if found and to is not None else to
            else:
                found, new = (name if match == name else None), to
        except (re.error, IndexError) as error:
            raise ConfigError(
                f"{key}: {match!r} to {to!r} is not a valid regex and replacement: {error}"
            ) from None
        if found:
            used.add(key)
            return new
    return name


def _fields(key: str, rule: Any) -> tuple[str, str | None]:
    try:
        match, to = (rule["match"], rule["to"]) if hasattr(rule, "keys") else (rule.match, rule.to)
    except (KeyError, AttributeError):
        raise ConfigError(f"{key}: expected {{match: ..., to: ...}}, got {rule!r}") from None
    return str(match), None if to is None else str(to)
