"""What every source hands over: named columns, where they came from, and the names of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from snn.errors import DataError, did_you_mean


@dataclass
class Table:
    """Columns of equal length.

    Attributes:
        columns: Name → values; a list for text and labels, an array ``[N, H, W]`` or ``[N, H, W, C]`` for
            images.
        where: The file or Hub split, for error messages.
    """

    columns: Mapping[str, Any]
    where: str

    def column(self, name: str, key: str, rename: Mapping[str, str] | None = None) -> Any:
        """Return a column.

        Args:
            name: The field.
            key: Config key that named it, for the error message.
            rename: Column of the source → field, tried where there is no column ``name``.

        Raises:
            DataError: No such column; the nearest is suggested.
        """
        found = self.find(name, rename)
        if found is not None:
            return found
        suggestion = did_you_mean(name, self.columns)
        raise DataError(
            f"dataset.{key}: no column {name!r} in {self.where}; {suggestion.replace('choices', 'columns')}"
        )

    def find(self, name: str, rename: Mapping[str, str] | None = None) -> Any:
        """As :meth:`column`; None where there is none."""
        called = [name, *(column for column, stands_for in (rename or {}).items() if stands_for == name)]
        return next((self.columns[column] for column in called if column in self.columns), None)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


@dataclass
class Source:
    """A data set as it was found.

    Attributes:
        tables: Split → table; always with ``train``, perhaps without the others.
        origin: One line for people: which file, wheel or Hub repository.
        label_names: Names of the classes where the source knows them.
        numbered: Whether labels are class numbers for sure, though the names of the classes may be numbers too.
    """

    tables: dict[str, Table]
    origin: str
    label_names: Sequence[str] = field(default_factory=list)
    numbered: bool = False
