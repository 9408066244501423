"""Steps from the very first batches, as learned step size quantisation is published with.

A start is a formula for the step of one batch, and how many batches take part. The first gives the step
itself; each later one moves it a tenth of the way, before that batch is quantised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_SHARE = 0.1


@dataclass(frozen=True)
class Start:
    """One way to start.

    Args:
        batches: How many batches take part.
        step: From the mean magnitude ``[C]`` of a batch and the largest code to its step ``[C]``.
    """

    batches: int
    step: Callable[[Tensor, int], Tensor]


def from_magnitude(magnitude: Tensor, qmax: int) -> Tensor:
    """``2 mean|x| / sqrt(qmax)``.

    Reference:
        Esser et al., ICLR 2020, section 2.1.

    Example:
        >>> from_magnitude(torch.tensor([3.0]), 9)
        tensor([2.])
    """
    return 2 * magnitude / qmax**0.5


def one_over_largest_code(magnitude: Tensor, qmax: int) -> Tensor:
    """``1 / qmax``: the largest code is worth 1, as suits probabilities; of the data the shape alone is used."""
    return torch.full_like(magnitude, 1 / qmax)


STARTS = {
    "first_batch": Start(1, from_magnitude),
    "ema20": Start(20, from_magnitude),
    "one_over_qp": Start(1, one_over_largest_code),
}


def next_step(start: Start, step: Tensor | None, magnitude: Tensor, qmax: int) -> Tensor:
    """The step after one more batch; always positive.

    A channel that is silent in the first batch takes the median of the others, so that no step is 0; one that
    is silent later keeps its step.

    Args:
        start: Which formula.
        step: The step so far; ``None``: this is the first batch.
        magnitude: Mean ``|x|`` of the batch.
        qmax: Largest code.

    Shape:
        ``[C]``, all of them.
    """
    batch = start.step(magnitude, qmax)
    silent = batch <= 0  # what is not a number is not silent: it shows in the result
    if step is not None:
        return torch.where(silent, step, step.lerp(batch, _SHARE))
    fallback = batch.new_tensor(1 / qmax) if bool(silent.all()) else batch[~silent].median()
    return torch.where(silent, fallback, batch)
