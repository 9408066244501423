"""Guess the renaming rules that would make a weights file fit a network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any


def suggested_rules(tensors: Mapping[str, Any], state: Mapping[str, Any], most: int = 3) -> str:
    r"""Rules that would give a file's tensors the names of a network's, as the end of a message.

    Tensors left over on either side are paired in order where all their shapes agree, else by the end of their
    names, else by shape and last part of the name; what stands before the names' common end makes the rule.

    Args:
        tensors: Of the file, by name.
        state: Of the network, by name.
        most: Rules shown.

    Returns:
        Empty where nothing can be paired.

    Example:
        >>> import torch
        >>> suggested_rules({"module.fc.weight": torch.ones(1)}, {"fc.weight": torch.ones(1)})
        '; this may fit: model.rename=[{match: "re:module\\\\.(.*)", to: "\\\\1"}]'
    """
    rules = Counter(_rule(old, new) for old, new in _pairs(tensors, state))
    # As YAML has them in double quotes, where a backslash stands for itself when it is doubled.
    shown = [
        f'{{match: "{_doubled(match)}", to: "{_doubled(to)}"}}' for (match, to), _ in rules.most_common(most)
    ]
    more = f" and {len(rules) - most} more like these" if len(rules) > most else ""
    return f"; this may fit: model.rename=[{', '.join(shown)}]{more}" if shown else ""


def _doubled(text: str) -> str:
    return text.replace("\\", "\\\\")


def _pairs(tensors: Mapping[str, Any], state: Mapping[str, Any]) -> list[tuple[str, str]]:
    theirs = [key for key in tensors if key not in state]
    ours = [key for key in state if key not in tensors]
    if [tensors[key].shape for key in theirs] == [state[key].shape for key in ours]:
        return list(zip(theirs, ours))
    pairs: list[tuple[str, str]] = []
    for old in theirs:
        ends = [new for new in ours if _same_end(old, new) and tensors[old].shape == state[new].shape]
        pairs += [(old, ends[0])] if len(ends) == 1 else []
    return pairs or _alike(tensors, state, theirs, ours)


def _same_end(one: str, other: str) -> bool:
    return one.endswith(f".{other}") or other.endswith(f".{one}")


def _alike(
    tensors: Mapping[str, Any], state: Mapping[str, Any], theirs: list[str], ours: list[str]
) -> list[tuple[str, str]]:
    """Pairs of equal shape and last part of the name, in alphabetical order, where there are as many of both."""
    groups: dict[tuple[str, Any], tuple[list[str], list[str]]] = {}
    for side, (keys, source) in enumerate(((theirs, tensors), (ours, state))):
        for key in sorted(keys):
            groups.setdefault((key.rpartition(".")[2], source[key].shape), ([], []))[side].append(key)
    return [pair for old, new in groups.values() if len(old) == len(new) for pair in zip(old, new)]


def _rule(old: str, new: str) -> tuple[str, str]:
    """A rule for all tensors of the module that both names end in."""
    before, after = old.split("."), new.split(".")
    shared = 0
    while shared < min(len(before), len(after)) and before[-1 - shared] == after[-1 - shared]:
        shared += 1
    if shared == 0:
        return old, new
    start, end = ".".join(before[:-shared]), ".".join(after[:-shared])
    escaped = re.escape(start) + r"\." if start else ""
    return rf"re:{escaped}(.*)", rf"{end}.\1" if end else r"\1"
