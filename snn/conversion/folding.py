"""Equal layers share a row: ``layer.0.query`` ... ``layer.5.query`` become ``layer.{0..5}.query``."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Box = list[frozenset[int]]

_NUMBER = re.compile(r"(?<![^.\s])\d+(?![^.\s])")


def fold(
    items: Iterable[Item], name: Callable[[Item], str], key: Callable[[Item], Hashable]
) -> list[tuple[str, list[Item]]]:
    """Items that differ only in numbers of their names, together; in the order of their first ones.

    Args:
        items: What to fold.
        name: Dotted name of an item.
        key: What must be equal besides, so that items may share a row.

    Returns:
        Folded names, each with the items that it stands for, and no others.

    Example:
        >>> names = ["layer.0.a", "layer.0.b", "layer.1.a", "layer.2.a", "head"]
        >>> [folded for folded, _ in fold(names, str, lambda n: n == "layer.0.b")]
        ['layer.{0..2}.a', 'layer.0.b', 'head']
    """
    groups: dict[Hashable, list[tuple[Box, list[Item]]]] = {}
    for item in items:
        numbers: Box = [frozenset([int(n)]) for n in _NUMBER.findall(name(item))]
        groups.setdefault((stack(name(item)), key(item)), []).append((numbers, [item]))
    return [
        (_written(name(boxed[0]), box), boxed) for boxes in groups.values() for box, boxed in _merged(boxes)
    ]


def stack(name: str) -> str:
    """A name with its numbers left open.

    Example:
        >>> stack("encoder.layer.11.conv1")
        'encoder.layer.*.conv1'
    """
    return _NUMBER.sub("*", name)


def _merged(boxes: list[tuple[Box, list[Item]]]) -> list[tuple[Box, list[Item]]]:
    """Fewer boxes of the same names: two that differ in one place only become one, the last place first."""
    for position in reversed(range(len(boxes[0][0]))):
        merged: dict[tuple[frozenset[int], ...], tuple[Box, list[Item]]] = {}
        for box, items in boxes:
            others = (*box[:position], *box[position + 1 :])
            if others in merged:
                merged[others][0][position] |= box[position]
                merged[others][1].extend(items)
            else:
                merged[others] = (list(box), list(items))
        boxes = list(merged.values())
    return boxes


def _written(name: str, box: Box) -> str:
    places = iter(box)
    return _NUMBER.sub(lambda _: _range(sorted(next(places))), name)


def _range(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{{{numbers[0]}..{numbers[-1]}}}"
    return f"{{{','.join(map(str, numbers))}}}"
