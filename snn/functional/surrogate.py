"""Surrogate gradients: what stands for the derivative of the step from silence to spike.

A spike is ``[u >= 0]`` for ``u = membrane - threshold``; its derivative is zero or undefined, so that the
backward pass uses a bump around ``u = 0`` instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn.errors import did_you_mean

Surrogate = Literal["sigmoid", "arctan", "quadratic_gate", "triangle"]
SURROGATES: tuple[Surrogate, ...] = get_args(Surrogate)


def sigmoid(u: Tensor, alpha: float) -> Tensor:
    """``alpha * s * (1 - s)`` with ``s = sigmoid(alpha * u)``: ``alpha/4`` at 0; the field's default, alpha 4."""
    s = u.mul_(alpha).sigmoid_()
    return s.addcmul_(s, s, value=-1).mul_(alpha)


def arctan(u: Tensor, alpha: float) -> Tensor:
    """``alpha/2 / (1 + (pi/2 * alpha * u)^2)``: ``alpha/2`` at 0, heavy tails; usual alpha 2."""
    return u.mul_(math.pi / 2 * alpha).square_().add_(1).reciprocal_().mul_(alpha / 2)


def quadratic_gate(u: Tensor, alpha: float) -> Tensor:
    """``max(0, alpha - alpha^2 * |u|)``: area 1 at any alpha, zero beyond ``1/alpha``; usual alpha 2."""
    return u.abs_().mul_(-alpha * alpha).add_(alpha).clamp_min_(0)


def triangle(u: Tensor, alpha: float) -> Tensor:
    """``alpha * max(0, 1 - |u|)``: height alpha, zero beyond 1, whatever alpha is; usual alpha 0.3 to 1."""
    return u.abs_().neg_().add_(1).clamp_min_(0).mul_(alpha)


#: These overwrite ``u``: a backward pass is bound by memory, and none of them needs a second tensor.
_DERIVATIVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": sigmoid,
    "arctan": arctan,
    "quadratic_gate": quadratic_gate,
    "triangle": triangle,
}


def derivative(u: Tensor, surrogate: Surrogate = "sigmoid", alpha: float = 4.0) -> Tensor:
    """The surrogate of ``d[u >= 0]/du``.

    Args:
        u: Membrane minus threshold.
        surrogate: ``sigmoid``, ``arctan``, ``quadratic_gate`` or ``triangle``.
        alpha: Sharpness, > 0; see the function of that name.

    Shape:
        Any shape; the output has the shape of ``u``.

    Raises:
        ValueError: Unknown surrogate.

    Example:
        >>> derivative(torch.tensor([0.0, 0.5, -1.0]))
        tensor([1.0000, 0.4200, 0.0707])
    """
    if surrogate not in _DERIVATIVES:
        raise ValueError(f"surrogate: unknown name {surrogate!r}; {did_you_mean(str(surrogate), SURROGATES)}")
    return derivative_(u.clone(), surrogate, alpha)


def derivative_(u: Tensor, surrogate: Surrogate, alpha: float) -> Tensor:
    """:func:`derivative` in place of ``u``, for a known surrogate."""
    return _DERIVATIVES[surrogate](u, alpha)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: Surrogate, alpha: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate, ctx.alpha = surrogate, alpha
        return (u >= 0).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return derivative(u, ctx.surrogate, ctx.alpha).mul_(grad), None, None


def spike(u: Tensor, surrogate: Surrogate = "sigmoid", alpha: float = 4.0) -> Tensor:
    """``[u >= 0]`` as numbers, an exact tie fires, with the surrogate's gradient.

    Args:
        u: Membrane minus threshold.
        surrogate: See :func:`derivative`.
        alpha: See :func:`derivative`.

    Shape:
        Any shape; the output has the shape of ``u``.

    Example:
        >>> spike(torch.tensor([-0.5, 0.0, 0.5]))
        tensor([0., 1., 1.])
    """
    return _Spike.apply(u, surrogate, alpha)
