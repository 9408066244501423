"""Tables for reports and the terminal, with one way to write each kind of number."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

_MISSING = "–"


def format_number(value: Any, column: str = "") -> str:
    """Write one cell; the column's name decides how many digits a float gets.

    Errors, losses and tolerances keep two significant digits in exponent form where they are small, rates
    three decimals and everything else (accuracy, F1, correlation) four.

    Args:
        value: Anything; ``None`` becomes a dash.
        column: Name of the column or quantity.

    Example:
        >>> format_number(0.79123, "F1"), format_number(0.12345, "rate"), format_number(1.23e-7, "error")
        ('0.7912', '0.123', '1.2e-07')
        >>> format_number(1234567, "spikes"), format_number(None), format_number(True)
        ('1,234,567', '–', 'yes')
    """
    if value is None or value == "":
        return _MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if not isinstance(value, float):
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if not math.isfinite(value):
        return str(value)
    name = column.lower()
    if "error" in name or "tolerance" in name or "difference" in name:
        return "0" if value == 0 else f"{value:.1e}"
    if "rate" in name and "learning" not in name:
        # A layer that almost never fires is not a layer that never fires.
        return f"{value:.3f}" if value == 0 or abs(value) >= 5e-4 else f"{value:.1e}"
    if "seconds" in name:
        return f"{value:,.1f}"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a GitHub table whose source is aligned too; columns of numbers are set flush right.

    Args:
        columns: Headings; they also choose the number format, see :func:`format_number`.
        rows: One sequence of cells per row.

    Raises:
        ValueError: A row has more or fewer cells than there are columns.

    Example:
        >>> print(markdown_table(["network", "accuracy"], [["float ANN", 0.79], ["spiking", 0.788]]))
        | network   | accuracy |
        |:----------|---------:|
        | float ANN |   0.7900 |
        | spiking   |   0.7880 |
    """
    headings = [_escape(name) for name in columns]
    cells, right = _cells(columns, rows)
    cells = [[_escape(cell) for cell in row] for row in cells]
    widths = _widths(headings, cells)
    rule = "|" + "|".join(
        "-" * (w + 1) + ":" if flush else ":" + "-" * (w + 1) for w, flush in zip(widths, right)
    )
    lines = ["| " + " | ".join(_pad(row, widths, right)) + " |" for row in [headings, *cells]]
    return "\n".join([lines[0], rule + "|", *lines[1:]])


def text_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a table for the terminal: two spaces between columns, one rule below the headings.

    Args:
        columns: Headings; they also choose the number format, see :func:`format_number`.
        rows: One sequence of cells per row.

    Raises:
        ValueError: A row has more or fewer cells than there are columns.

    Example:
        >>> print(text_table(["T", "accuracy"], [[1, 0.61], [16, 0.79]]))
         T  accuracy
        --  --------
         1    0.6100
        16    0.7900
    """
    cells, right = _cells(columns, rows)
    cells = [[" ".join(cell.split()) for cell in row] for row in cells]
    widths = _widths(columns, cells)
    lines = ["  ".join(_pad(row, widths, right)).rstrip() for row in [list(columns), *cells]]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _cells(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> tuple[list[list[str]], list[bool]]:
    values = [list(row) for row in rows]
    for row in values:
        if len(row) != len(columns):
            raise ValueError(f"a row has {len(row)} cells, the table {len(columns)} columns: {row!r}")
    right = [
        any(isinstance(row[i], int | float) and not isinstance(row[i], bool) for row in values)
        for i in range(len(columns))
    ]
    return [[format_number(value, name) for value, name in zip(row, columns)] for row in values], right


def _escape(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")


def _width(cell: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in cell)


def _widths(columns: Sequence[str], cells: list[list[str]]) -> list[int]:
    return [max(_width(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]


def _pad(row: list[str], widths: list[int], right: list[bool]) -> list[str]:
    spaces = [" " * (width - _width(cell)) for cell, width in zip(row, widths)]
    return [gap + cell if flush else cell + gap for cell, gap, flush in zip(row, spaces, right)]
