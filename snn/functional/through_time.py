"""Spike counts with a gradient, so that a converted network can be trained through time.

Counts are functions of the charge that has arrived, in units of the threshold. Everything around them is ordinary
arithmetic that autograd knows, the thresholds' gradients included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn.functional.fire import follow
from snn.functional.surrogate import Surrogate, derivative


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, charge: Tensor, counts: Tensor, least: int, most: int) -> Tensor:
        ctx.save_for_backward(charge)
        ctx.bounds = least, most
        return counts.view_as(counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (charge,) = ctx.saved_tensors
        rounded = (charge + 0.5).floor_()
        return grad * rounded.eq_(rounded.clamp(*ctx.bounds)), None, None, None


def straight_through(charge: Tensor, counts: Tensor, least: int, most: int) -> Tensor:
    """``counts``, with the gradient of the quantiser: 1 where the rounded charge lies within the bounds.

    Args:
        charge: ``C_t / threshold``.
        counts: Their value in the forward pass; passes no gradient of its own.
        least: Smallest count.
        most: Largest count.

    Shape:
        Any shape, the same for both; the output as well.

    Example:
        >>> charge = torch.tensor([-2.0, 0.6, 3.0], requires_grad=True)
        >>> straight_through(charge, torch.tensor([0.0, 1.0, 2.0]), 0, 2).sum().backward()
        >>> charge.grad
        tensor([0., 1., 0.])
    """
    return _StraightThrough.apply(charge, counts, least, most)


class _SurrogateCounts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        charge: Tensor,
        previous: Tensor,
        least: int,
        initial: float,
        surrogate: Surrogate,
        alpha: float,
    ) -> Tensor:
        counts = follow((charge + initial).floor_(), previous, least=least)
        ctx.save_for_backward(charge, counts, previous)
        ctx.settings = least, initial, surrogate, alpha
        return counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        charge, counts, previous = ctx.saved_tensors
        least, initial, surrogate, alpha = ctx.settings
        grad_charge = torch.empty_like(charge)
        carried = torch.zeros_like(charge[0])
        for t in range(len(charge) - 1, -1, -1):
            before = counts[t - 1] if t else previous
            membrane = charge[t] + initial - before
            slope = derivative(membrane - 1, surrogate, alpha)
            if least < 0:  # a negative spike where the membrane falls below zero
                slope = slope + derivative(membrane, surrogate, alpha)
            arriving = carried + grad[t]
            grad_charge[t] = slope.mul_(arriving)
            carried = arriving - grad_charge[t]
        return grad_charge, carried, None, None, None, None


def surrogate_counts(
    charge: Tensor,
    previous: Tensor,
    least: int,
    initial: float = 0.5,
    surrogate: Surrogate = "triangle",
    alpha: float = 1.0,
) -> Tensor:
    """Counts of an integrate-and-fire neuron, with the gradient of a surrogate at each of its decisions.

    ``N_t = N_{t-1} + [u_t >= 1]`` with the membrane ``u_t = initial + C_t/threshold - N_{t-1}``, signed neurons also
    ``- [u_t < 0]``; ``d[x >= 0]/dx`` is the surrogate's.

    Args:
        charge: ``C_t / threshold`` at each step.
        previous: Counts before the first of the steps.
        least: -1 if negative spikes are possible, else 0.
        initial: Membrane at the start, in thresholds.
        surrogate: See :func:`snn.functional.surrogate.derivative`.
        alpha: Its sharpness.

    Shape:
        ``[t, ...]`` and ``[...]`` to ``[t, ...]``.

    Example:
        >>> surrogate_counts(torch.tensor([0.4, 0.8, 1.2]), torch.tensor(0.0), 0)
        tensor([0., 1., 1.])
    """
    return _SurrogateCounts.apply(charge, previous, least, initial, surrogate, alpha)
