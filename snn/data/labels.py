"""From labels as they stand in a file to class numbers, or to measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from snn.data.table import Table
from snn.errors import DataError, did_you_mean

_UNLABELLED = (
    "class numbers count from 0, and a split without labels, as GLUE's test splits are, cannot be used: "
    "dataset.splits.NAME=null does without it"
)


def class_names(values: Sequence[Any], table: Table, field: str) -> list[str]:
    """Name the classes that the training labels show: 0 to the largest number, or all words in sorted order.

    Args:
        values: Training labels as read.
        table: Where they came from, for the error message.
        field: Name of their column, for the error message.

    Raises:
        DataError: The labels are measurements rather than classes.

    Example:
        >>> table = Table({}, "train.tsv")
        >>> class_names(["1", "0", "2"], table, "label"), class_names(["spam", "ham"], table, "label")
        (['0', '1', '2'], ['ham', 'spam'])
    """
    key = f"dataset.label_field={field} in {table.where}"
    _refuse_rows(values, key)
    present = [value for value in _without_spaces(values) if not _is_missing(value)]
    numbers = [_whole(value) for value in present]
    whole = [number for number in numbers if number is not None]
    if len(whole) < len(present):
        if all(_is_number(value) for value in present):
            broken = present[numbers.index(None)]
            raise DataError(
                f"{key}: label {broken!r} is not a whole number, so it is no class; dataset.task=regression reads "
                "measurements"
            )
        return sorted({str(value) for value in present})
    largest = max(whole, default=0)
    if largest >= max(len(values), 1000):
        raise DataError(f"{key}: label {largest} in {len(values)} rows; class numbers count from 0")
    return [str(number) for number in range(max(largest, 0) + 1)]


def encode(
    values: Sequence[Any], names: Sequence[str], table: Table, field: str, numbered: bool = False
) -> np.ndarray:
    """Turn labels into class numbers.

    A label is the name of a class or, unless a name is a number that stands elsewhere, the number of a class; spaces
    around it do not count.

    Args:
        values: Labels as read.
        names: Names of the classes in order.
        table: Where they came from, for the error message.
        field: Name of their column, for the error message.
        numbered: Whether labels are class numbers for sure: then no class is looked for by its name.

    Raises:
        DataError: A label is missing, negative, too large, not whole, unknown, or several numbers; with the row,
        counted from 1.

    Example:
        >>> encode(["spam", 0], ["ham", "spam"], Table({}, "train.tsv"), "label")
        array([1, 0])
        >>> encode([0, 1], ["1", "0"], Table({}, "hub:train"), "label", numbered=True)
        array([0, 1])
    """
    _refuse_rows(values, f"dataset.label_field={field} in {table.where}")
    values = _without_spaces(values)
    index = {} if numbered else {name: place for place, name in enumerate(_without_spaces(names))}
    # Where class 0 is called «1», a 1 is the name of class 0, and a 2 must not become one more class 2.
    by_number = numbered or all(_whole(name) in (None, place) for place, name in enumerate(names))
    codes = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        code = index.get(str(value))
        if code is None and (number := _whole(value)) is not None:
            code = index.get(str(number), number if by_number else None)
        if code is None or not 0 <= code < len(names):
            raise DataError(f"dataset.label_field={field}: {_complaint(value, row, table, names)}")
        codes[row] = code
    return codes


def measurements(values: Sequence[Any], label_range: Sequence[float], table: Table, field: str) -> np.ndarray:
    """Turn labels into numbers of single precision.

    Args:
        values: Labels as read.
        label_range: Smallest and largest number that there can be; empty: any.
        table: Where they came from, for the error message.
        field: Name of their column, for the error message.

    Returns:
        Measurements, float32.

    Raises:
        DataError: A label is missing, no finite number, or out of range; with the row, counted from 1.

    Example:
        >>> measurements(["2.5", 4], [0, 5], Table({}, "train.tsv"), "label")
        array([2.5, 4. ], dtype=float32)
    """
    _refuse_rows(values, f"dataset.label_field={field} in {table.where}")
    numbers = np.array([float(v) if not _is_missing(v) and _is_number(v) else np.nan for v in values])
    low, high = label_range or (-np.inf, np.inf)
    too_large = np.abs(numbers) > np.finfo(np.float32).max
    bad = np.flatnonzero(~np.isfinite(numbers) | too_large | (numbers < low) | (numbers > high))
    if len(bad):
        row = int(bad[0])
        place = f"dataset.label_field={field}: label {values[row]!r} in {table.where}, row {row + 1},"
        if _is_missing(values[row]):
            raise DataError(f"{place} is missing")
        if not np.isfinite(numbers[row]):
            raise DataError(f"{place} is no finite number; dataset.task=regression needs measurements")
        if too_large[row]:
            raise DataError(f"{place} is too large for single precision: bring measurements to another unit")
        hint = f" ({_UNLABELLED})" if numbers[row] == -1 else ""
        raise DataError(f"{place} is outside of dataset.label_range={list(label_range)}{hint}")
    return numbers.astype(np.float32)


def _refuse_rows(values: Sequence[Any], key: str) -> None:
    """Raise for labels that are a row of numbers each, such as one-hot codes."""
    first = next((value for value in values if isinstance(value, list | tuple | np.ndarray)), None)
    if first is not None:
        way = "one-hot labels become class numbers by labels.argmax(1)" if len(first) > 1 else "labels[:, 0]"
        raise DataError(f"{key}: expected one number or name in a row, got {len(first)} in a list; {way}")


def _without_spaces(values: Sequence[Any]) -> list[Any]:
    return [value.strip() if isinstance(value, str) else value for value in values]


def _complaint(value: Any, row: int, table: Table, names: Sequence[str]) -> str:
    place = f"label {value!r} in {table.where}, row {row + 1},"
    number = _whole(value)
    if _is_missing(value):
        return f"{place} is missing"
    if number is None:
        return f"{place} is neither a class number nor the name of a class; {did_you_mean(str(value), names)}"
    if number < 0:
        return f"{place} is negative ({_UNLABELLED})"
    return f"{place} is outside the range of the {len(names)} classes: {', '.join(names)}"


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return "_" not in str(value)  # Python reads 1_1 as 11; in a file it is a word


def _whole(value: Any) -> int | None:
    """The whole number that a label stands for, or None: 2, "2", 2.0 and NumPy's kinds of it all are 2."""
    return int(float(value)) if _is_number(value) and float(value).is_integer() else None
