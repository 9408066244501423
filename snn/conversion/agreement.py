"""How far two networks' read-outs are from each other, and how often they predict the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Agreement:
    """Read-outs of one network against another's, over any number of batches.

    A prediction is the arg-max over the last axis: one per sample for ``[B, C]``, one per token for ``[B, S,
    V]``, where padding is left out. A read-out of a single number predicts no class.

    Args:
        samples: Rows of the batches.
        predictions: Predictions compared.
        same: Of these, those that are equal.
        max_error: Largest absolute difference of the logits.
        total: Sum of the absolute differences.
        values: Logits compared.
        largest: Largest magnitude of a logit that is compared with.

    Example:
        >>> found = Agreement()
        >>> found.add(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([[0.5, 1.0], [0.0, 1.0]]))
        >>> found.max_error, found.mean_error, found.share
        (2.0, 0.625, 0.5)
    """

    samples: int = 0
    predictions: int = 0
    same: int = 0
    max_error: float = 0.0
    total: float = 0.0
    values: int = 0
    largest: float = 0.0

    def add(self, got: Tensor, wanted: Tensor, mask: Tensor | None = None) -> None:
        """Compare one batch.

        Args:
            got: Logits.
            wanted: Logits that they should be.
            mask: Padding mask of the batch.

        Shape:
            ``[B, ..., C]`` twice, and ``[B, S]``.
        """
        self.samples += wanted.shape[0]
        got, wanted = real_positions(got, mask), real_positions(wanted, mask)
        gap = (got - wanted).abs()
        self.max_error = max(self.max_error, float(gap.max()))
        self.largest = max(self.largest, float(wanted.abs().max()))
        self.total += float(gap.sum(dtype=torch.float64))
        self.values += gap.numel()
        if wanted.shape[-1] > 1:
            self.predictions += wanted.shape[0]
            self.same += int((got.argmax(-1) == wanted.argmax(-1)).sum())

    @property
    def mean_error(self) -> float:
        """Mean absolute difference of the logits."""
        return self.total / max(self.values, 1)

    @property
    def share(self) -> float | None:
        """Equal predictions, as a fraction; ``None`` if there are none to compare."""
        return self.same / self.predictions if self.predictions else None

    def __str__(self) -> str:
        if not self.predictions:
            return f"{self.samples:,} samples"
        if self.predictions == self.samples:
            return f"same class for {self.same:,} of {self.samples:,} samples"
        return f"same class at {self.same:,} of {self.predictions:,} positions of {self.samples:,} samples"


def real_positions(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Logits of every prediction, padding left out: ``[B, ..., C]`` to ``[N, C]``."""
    if mask is not None and logits.dim() == 3 and logits.shape[:2] == mask.shape:
        return logits[mask.bool()]
    return logits.flatten(0, -2)


def slices(inputs: Mapping[str, Any], T: int, rows: int = 256) -> Iterator[dict[str, Any]]:
    """Cut a batch into parts of which ``rows`` rows exist when every step of time is one: memory flat in T.

    Args:
        inputs: Model inputs, ``[B, ...]`` each.
        T: Number of time steps.
        rows: Steps times samples, at most, but for a single sample of more steps.
    """
    tensors = {k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.dim() > 0}
    samples = next(iter(tensors.values())).shape[0]
    size = max(1, rows // T)
    for start in range(0, samples, size):
        yield {**inputs, **{k: v[start : start + size] for k, v in tensors.items()}}
