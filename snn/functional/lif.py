"""The leaky integrate-and-fire neuron in increments, all time steps in one call.

With membrane ``v[0] = 0``, unless told otherwise, and rate ``1/tau``:

    h[t] = v[t-1] + (x[t] - v[t-1]) / tau        or, without decay of the input, (1 - 1/tau) * v[t-1] + x[t]
    s[t] = [h[t] >= threshold]
    v[t] = (1 - s[t]) * h[t]                     or, with soft reset, h[t] - threshold * s[t]

Nothing is remembered between two calls. :func:`lif` runs the whole recursion with a backward pass in closed
form and keeps one tensor for it, ``h``; :func:`lif_step` is one step, for networks in which a step's input
depends on the step before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn.functional.fused import compiled, to_be_fused
from snn.functional.precision import exact_type
from snn.functional.surrogate import SURROGATES, Surrogate, derivative_, spike

Reset = Literal["hard", "soft"]
RESETS: tuple[Reset, ...] = ("hard", "soft")


@dataclass(frozen=True)
class _Law:
    """The arguments of :func:`lif` that are not tensors, checked."""

    threshold: float = 1.0
    reset: Reset = "hard"
    detach_reset: bool = True
    decay_input: bool = True
    surrogate: Surrogate = "sigmoid"
    alpha: float = 4.0
    detach_membrane: bool = False
    initial: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("threshold", self.threshold), ("alpha", self.alpha)):
            if not value > 0:
                raise ValueError(f"{name} must be positive; got {value}")
        if not 0 <= self.initial < 1:
            raise ValueError(f"initial must be in [0, 1), in thresholds; got {self.initial}")
        if self.reset not in RESETS:
            raise ValueError(f"reset must be one of {', '.join(RESETS)}; got {self.reset!r}")
        if self.surrogate not in SURROGATES:
            raise ValueError(f"surrogate must be one of {', '.join(SURROGATES)}; got {self.surrogate!r}")

    @property
    def hard(self) -> bool:
        return self.reset == "hard"

    def start(self, like: Tensor) -> Tensor:
        """``v[0]``, in the shape of ``like``."""
        return torch.full_like(like, self.initial * self.threshold)

    def after(self, h: Tensor, fired: Tensor) -> Tensor:
        """The membrane after the reset; a new tensor."""
        if self.hard:
            return torch.addcmul(h, h, fired, value=-1)
        return torch.sub(h, fired, alpha=self.threshold)

    def integrate(self, v: Tensor, x: Tensor, rate: Tensor | float) -> Tensor:
        if self.decay_input:
            return v + (x - v) * rate
        return v * (1 - rate) + x


def lif(
    current: Tensor,
    tau: float | Tensor = 2.0,
    threshold: float = 1.0,
    reset: Reset = "hard",
    detach_reset: bool = True,
    decay_input: bool = True,
    surrogate: Surrogate = "sigmoid",
    alpha: float = 4.0,
    detach_membrane: bool = False,
    initial: float = 0.0,
) -> Tensor:
    """Leaky integrate and fire over all steps.

    The gradient is that of the unrolled recursion with the surrogate in place of the step. For ``g = dL/ds``
    and ``e = dL/dh``, hard reset: ``e[t] = g[t] s'(u[t]) + (1 - s[t]) (1 - 1/tau) e[t+1]``, ``dL/dx[t] =
    e[t]/tau``; without ``detach_reset`` the bracket is ``1 - s[t] - h[t] s'(u[t])``.

    Args:
        current: Input per step, in units of membrane potential. Half precision is integrated in float32.
        tau: Membrane time constant in steps, >= 1; infinity: no leak (with ``decay_input=False``). A tensor
            without axes receives its gradient.
        threshold: Firing threshold, > 0; a membrane that equals it fires.
        reset: ``hard``: the membrane starts again from 0; ``soft``: the threshold is subtracted.
        detach_reset: Whether the gradient ignores that the reset depends on the spike.
        decay_input: Whether the input is divided by ``tau``, too.
        surrogate: See :func:`snn.functional.surrogate.derivative`.
        alpha: Sharpness of the surrogate.
        detach_membrane: Whether the gradient is cut between the steps: ``e[t] = g[t] s'(u[t])``.
        initial: Membrane at the start, in thresholds, in [0, 1).

    Shape:
        ``[T, ...]`` to ``[T, ...]`` with values in {0, 1}, in the dtype of ``current``.

    Raises:
        ValueError: A value out of range, or an unknown name.

    Reference:
        Fang et al., ICCV 2021, for the trainable time constant; Wu et al., 2018, for the recursion.

    Example:
        >>> lif(torch.tensor([1.0, 1.5, 2.0, 0.0]))  # a membrane of exactly 1 at the second step
        tensor([0., 1., 1., 0.])
    """
    law = _Law(threshold, reset, detach_reset, decay_input, surrogate, alpha, detach_membrane, initial)
    # Every neuron is on its own, so all layouts are one: a row of neurons per step, in the order of memory.
    outer = sorted(range(1, current.dim()), key=current.stride, reverse=True)
    ordered = current.permute(0, *outer)
    spikes = _LIF.apply(ordered.reshape(len(ordered), -1), _rate(tau), law, to_be_fused()).view(ordered.shape)
    return spikes.permute(0, *(1 + outer.index(axis) for axis in range(1, current.dim())))


def lif_step(
    current: Tensor, membrane: Tensor | None = None, tau: float | Tensor = 2.0, **options: Any
) -> tuple[Tensor, Tensor]:
    """One step of :func:`lif`, by ordinary autograd.

    Args:
        current: Input of the step.
        membrane: ``v[t-1]``; None at the first step.
        tau: See :func:`lif`.
        options: The further arguments of :func:`lif`.

    Shape:
        ``[...]`` to spikes ``[...]``, in the dtype of ``current``, and the membrane ``[...]``.

    Raises:
        ValueError: As :func:`lif`.
    """
    law = _Law(**options)
    x = current.to(exact_type(current))
    v = law.start(x) if membrane is None else membrane
    h = law.integrate(v.detach() if law.detach_membrane else v, x, _rate(tau))
    fired = spike(h - law.threshold, law.surrogate, law.alpha)
    return fired.to(current.dtype), law.after(h, fired.detach() if law.detach_reset else fired)


class _LIF(torch.autograd.Function):
    """The recursion and its closed-form backward."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, rate: Tensor | float, law: _Law, fuse: bool) -> Tensor:
        run = compiled(_run_anew) if fuse else _run_in_place
        rate = rate.detach() if isinstance(rate, Tensor) else rate
        membranes, spikes = run(current.detach(), rate, law)
        ctx.save_for_backward(membranes)
        ctx.rate, ctx.law, ctx.fuse = rate, law, fuse
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        (membranes,) = ctx.saved_tensors
        back = compiled(_back_anew) if ctx.fuse else _back_in_place
        grad_current, grad_rate = back(membranes, grad.detach(), ctx.rate, ctx.law, ctx.needs_input_grad[1])
        if grad_rate is not None:
            grad_rate = grad_rate.reshape(ctx.rate.shape)
        return grad_current, grad_rate, None, None


# The recursions write every step where they are told to: into parts of one tensor where operations run one by one,
# which costs no copy; into tensors of their own where a compiler looks for what it can do in one pass.


def _run_in_place(current: Tensor, rate: Tensor | float, law: _Law) -> tuple[Tensor, Tensor]:
    membranes = torch.empty_like(current, dtype=exact_type(current))
    spikes = torch.empty_like(current)
    _run(current, rate, law, membranes.unbind(0), spikes.unbind(0))
    return membranes, spikes


def _run_anew(current: Tensor, rate: Tensor | float, law: _Law) -> tuple[Tensor, Tensor]:
    spikes = [torch.empty_like(x) for x in current]
    membranes = [torch.empty_like(x, dtype=exact_type(x)) for x in current]
    _run(current, rate, law, membranes, spikes)
    return torch.stack(membranes), torch.stack(spikes)


def _run(
    current: Tensor, rate: Tensor | float, law: _Law, membranes: Sequence[Tensor], spikes: Sequence[Tensor]
) -> None:
    """``h`` and ``s`` of all steps."""
    x = current.to(exact_type(current))
    for t, (h, fired) in enumerate(zip(membranes, spikes)):
        v = law.start(h) if t == 0 else law.after(membranes[t - 1], spikes[t - 1])
        if law.decay_input:
            torch.sub(x[t], v, out=h).mul_(rate).add_(v)
        else:
            torch.mul(v, 1 - rate, out=h).add_(x[t])
        torch.ge(h, law.threshold, out=fired)


def _back_in_place(
    membranes: Tensor, grad: Tensor, rate: Tensor | float, law: _Law, for_rate: bool
) -> tuple[Tensor, Tensor | None]:
    grad_current = torch.empty_like(membranes, dtype=grad.dtype)
    return grad_current, _back(membranes, grad, rate, law, for_rate, grad_current.unbind(0))


def _back_anew(
    membranes: Tensor, grad: Tensor, rate: Tensor | float, law: _Law, for_rate: bool
) -> tuple[Tensor, Tensor | None]:
    grads = [torch.empty_like(g) for g in grad]
    grad_rate = _back(membranes, grad, rate, law, for_rate, grads)
    return torch.stack(grads), grad_rate


def _back(
    membranes: Tensor, grad: Tensor, rate: Tensor | float, law: _Law, for_rate: bool, grads: Sequence[Tensor]
) -> Tensor | None:
    """``dL/dx`` of all steps; returns ``dL/drate`` if it is asked for."""
    grad_rate: Tensor | None = None
    later: Tensor | None = None
    for t in reversed(range(len(grads))):
        h = membranes[t]
        slope = derivative_(h - law.threshold, law.surrogate, law.alpha)
        if later is None:
            e = slope.mul_(grad[t])
        else:
            outlived = _outlived(law, h, slope)
            e = slope.mul_(grad[t]).addcmul_(later.mul_(1 - rate), outlived)
        if for_rate and isinstance(rate, Tensor):
            by_rate = (_by_rate(law, membranes, t, rate) * e).sum()
            grad_rate = by_rate if grad_rate is None else grad_rate + by_rate
        if law.decay_input:
            torch.mul(e, rate, out=grads[t])
        else:
            grads[t].copy_(e)
        later = None if law.detach_membrane else e
    return grad_rate


def _outlived(law: _Law, h: Tensor, slope: Tensor) -> Tensor:
    """``dv[t]/dh[t]``: what of the membrane outlives the reset."""
    if law.hard:
        kept = torch.lt(h, law.threshold, out=torch.empty_like(h))
        return kept if law.detach_reset else kept.addcmul_(h, slope, value=-1)
    return h.new_ones(()) if law.detach_reset else slope.mul(-law.threshold).add_(1)


def _by_rate(law: _Law, membranes: Tensor, t: int, rate: Tensor) -> Tensor:
    """``dh[t]/drate`` at a given ``v[t-1]``: ``x[t] - v[t-1]``, or ``-v[t-1]`` without decay of the input."""
    h = membranes[t]
    if t == 0:
        v = law.start(h)
    else:
        before = membranes[t - 1]
        v = law.after(before, (before >= law.threshold).to(before.dtype))
    return (h - v) / rate if law.decay_input else -v


def _rate(tau: float | Tensor) -> float | Tensor:
    if isinstance(tau, Tensor):
        return tau.reciprocal()
    if not tau >= 1:
        raise ValueError(f"tau must be at least 1; got {tau}")
    return 1 / tau
