"""The rows of one split, whatever they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor


class Split(ABC):
    """Rows of one split; a map-style data set that can also hand out whole batches.

    Attributes:
        labels: Class numbers, int64, or measurements, float32, ``[N]``.
    """

    labels: np.ndarray

    @property
    def lengths(self) -> np.ndarray | None:
        """Tokens per row, ``[N]``, or None where rows have no length."""
        return None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return {name: tensor[0] for name, tensor in self.batch(np.array([index % len(self)])).items()}

    @abstractmethod
    def batch(self, rows: np.ndarray, augmentation: Any = None) -> dict[str, Tensor]:
        """Some rows as one batch of tensors."""

    @abstractmethod
    def contents(self) -> Iterator[np.ndarray]:
        """Everything that a fingerprint covers."""
