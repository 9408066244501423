"""Uniform quantisers with a straight-through gradient.

QCFS and LSQ are one function seen twice: codes ``c = clip(floor(x/step + 1/2), qmin, qmax)``, output ``c *
step``. QCFS learns the threshold ``step * levels``; LSQ learns the step itself, with a scaled gradient.
Rounding is to nearest, ties upwards, which is what a neuron does whose membrane starts at half its threshold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn.functional import kernel
from snn.functional.fused import compiled, to_be_fused
from snn.functional.kernel import Shared
from snn.functional.precision import exact_type


def codes(x: Tensor, step: Tensor, qmin: int, qmax: int) -> Tensor:
    """Integer codes of ``x``, as floating-point numbers, not differentiable.

    Example:
        >>> codes(torch.tensor([-1.0, 0.5, 0.4, 9.0]), torch.tensor(1.0), 0, 4)
        tensor([0., 1., 0., 4.])
    """
    half = x.new_full((), 0.5)
    return torch.addcdiv(half, x, step).floor_().clamp_(qmin, qmax)


class _UniformQuantize(torch.autograd.Function):
    """Saves the input alone; autograd through the same formula would keep the rounded tensor beside it.

    The gradient window is written out, closed at both ends on the rounded value, because the gradient of
    ``torch.clamp`` at its bounds differs between torch versions.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, shift: Shared, gain: Shared, qmin: int, qmax: int, fuse: bool
    ) -> Tensor:
        ctx.save_for_backward(x, step, shift, gain)
        x, step = x.detach(), step.detach()
        ctx.bounds, ctx.fuse, ctx.by_kernel = (qmin, qmax), fuse, fuse and kernel.has_kernel(x, step)
        if ctx.by_kernel:
            return kernel.quantize(x, step, shift, gain, qmin, qmax)
        return (compiled(_quantize) if fuse else _quantize)(x, step, shift, gain, qmin, qmax)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, step, shift, gain = ctx.saved_tensors
        (qmin, qmax), (for_x, for_step) = ctx.bounds, ctx.needs_input_grad[:2]
        law = (step.detach(), shift, gain, qmin, qmax)
        grad_x: Tensor | None
        grad_step: Tensor | None
        if ctx.by_kernel:
            grad_x, grad_step = kernel.gradients(x.detach(), grad, *law)
        else:
            find = compiled(_gradients) if ctx.fuse else _gradients
            grad_x, grad_step = find(x.detach(), grad.detach(), *law, for_x, for_step)
            if grad_step is not None:
                # Summed out here, because a compiler would compute all that is summed a second time.
                grad_step = grad_step.sum_to_size(step.shape)
        return grad_x if for_x else None, grad_step if for_step else None, *[None] * 5


def _quantize(x: Tensor, step: Tensor, shift: Shared, gain: Shared, qmin: int, qmax: int) -> Tensor:
    found = codes(_shifted(x, step, shift), step, qmin, qmax).mul_(step)
    return (found if gain is None else found.mul_(gain)).to(x.dtype)


def _gradients(
    x: Tensor,
    grad: Tensor,
    step: Tensor,
    shift: Shared,
    gain: Shared,
    qmin: int,
    qmax: int,
    for_x: bool,
    for_step: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """From the gradient of the output: that of the input, and what each element adds to that of the step."""
    ratio, upstream = _shifted(x, step, shift) / step, grad.to(step.dtype)
    if gain is not None:
        upstream = upstream * gain
    rounded = (ratio + 0.5).floor_()
    clipped = rounded.clamp(qmin, qmax)
    # 1 inside of the window, 0 outside, as numbers: masks of bools take several times as long on a CPU.
    inside = rounded.eq_(clipped)
    grad_x = (upstream * inside).to(x.dtype) if for_x else None
    return grad_x, clipped.addcmul_(ratio, inside, value=-1).mul_(upstream) if for_step else None


def _shifted(x: Tensor, step: Tensor, shift: Shared) -> Tensor:
    x = x.to(step.dtype)
    return x if shift is None else x + shift


def uniform_quantize(
    x: Tensor, step: Tensor, qmin: int, qmax: int, *, shift: Shared = None, gain: Shared = None
) -> Tensor:
    """Quantise to ``qmin*step .. qmax*step``, straight-through.

    Args:
        x: Input.
        step: Distance of two levels, > 0, broadcastable to ``x``; receives its gradient
            ``sum grad * (code - inside * x/step)``. All is computed in its type.
        qmin: Smallest code.
        qmax: Largest code.
        shift: Added to the input, of the shape of ``step`` or one number for all; gets no gradient. None: 0.
        gain: What the output is multiplied by, likewise. None: 1.

    Shape:
        Any shape; the output has the shape and the type of ``x``.
    """
    return _UniformQuantize.apply(x, step, shift, gain, qmin, qmax, to_be_fused())


def qcfs(x: Tensor, threshold: Tensor, levels: int, signed: bool = False) -> Tensor:
    """Quantisation by clip, floor and shift: the mean output of an integrate-and-fire neuron over ``levels``
    steps.

    ``y = threshold * clip(floor(x * levels/threshold + 1/2), 0, levels) / levels``; the signed form clips at
    ``-levels``. The gradient passes where the rounded value lies in the closed range, that is for ``x``
    within half a level of it.

    Args:
        x: Input.
        threshold: Largest output, > 0, broadcastable to ``x``; trainable.
        levels: Number of steps from 0 to the threshold, at least 1.
        signed: Whether codes run from ``-levels`` instead of 0.

    Shape:
        Any shape; the output has the shape of ``x``.

    Raises:
        ValueError: ``levels`` is less than 1.

    Reference:
        Bu et al., ICLR 2022; Hao et al., ICML 2025.

    Example:
        >>> qcfs(torch.tensor([-0.2, 0.3, 0.9, 3.0]), torch.tensor(1.0), levels=4)
        tensor([0.0000, 0.2500, 1.0000, 1.0000])
    """
    if levels < 1:
        raise ValueError(f"levels must be at least 1; got {levels}")
    return uniform_quantize(
        x, torch.as_tensor(threshold, dtype=exact_type(x)) / levels, -levels if signed else 0, levels
    )


class _ScaleGradient(torch.autograd.Function):
    """Identity with a scaled gradient, so that the forward value is the parameter itself, to the last bit."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None


def lsq(x: Tensor, step: Tensor, qmin: int, qmax: int) -> Tensor:
    """Learned step size quantisation.

    The step's gradient is scaled by ``1/sqrt(qmax * number of elements that share the step)``.

    Args:
        x: Input.
        step: Step size, > 0, broadcastable to ``x``; trainable.
        qmin: Smallest code.
        qmax: Largest code, at least 1.

    Shape:
        Any shape; the output has the shape of ``x``.

    Raises:
        ValueError: ``qmax`` is less than 1.

    Reference:
        Esser et al., ICLR 2020; as used by SpikeZIP-TF, ICML 2024.

    Example:
        >>> lsq(torch.tensor([-9.0, 0.3, 0.25]), torch.tensor(0.5), -2, 1)
        tensor([-1.0000,  0.5000,  0.5000])
    """
    if qmax < 1:
        raise ValueError(f"qmax must be at least 1; got {qmax}")
    return uniform_quantize(x, lsq_step(torch.as_tensor(step, dtype=exact_type(x)), x, qmax), qmin, qmax)


def lsq_step(step: Tensor, x: Tensor, qmax: int) -> Tensor:
    """The step itself, its gradient scaled by ``1/sqrt(qmax * number of elements of x that share it)``."""
    shared = x.numel() / max(step.numel(), 1)
    return _ScaleGradient.apply(step, (qmax * shared) ** -0.5)
