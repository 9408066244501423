"""Neurons in increments: input current per step to spikes per step.

These are the textbook forms. The network simulation works on running sums instead (``snn.neurons``); tests
prove that both emit the same spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from snn.functional.plain import plain_functions

SpikeOrder = Literal["early", "late", "even"]
SPIKE_ORDERS: tuple[SpikeOrder, ...] = ("early", "late", "even")


def place_spikes(count: Tensor, times: range, steps: int, order: SpikeOrder = "early") -> Tensor:
    """Spikes emitted by each time when ``count`` of them are spread over ``steps`` steps.

    Args:
        count: Number of spikes in the window, negative for negative spikes, at most ``steps`` in size.
        times: Time steps to ask for, 1-based.
        steps: Length T of the window.
        order: ``early``: from the first step on; ``late``: up to the last; ``even``: at equal distances.

    Shape:
        ``[...]`` to ``[len(times), ...]``.

    Raises:
        ValueError: Unknown order.

    Example:
        >>> place_spikes(torch.tensor([2.0]), range(1, 5), 4, "even").squeeze()
        tensor([0., 1., 1., 2.])
    """
    if order not in SPIKE_ORDERS:
        raise ValueError(f"order must be one of {', '.join(SPIKE_ORDERS)}; got {order!r}")
    emitted = count.new_empty(len(times), *count.shape)
    # Number bounds, step by step: several times as fast as one call with tensor bounds.
    with plain_functions():
        for t, row in zip(times, emitted):
            if order == "early":
                torch.clamp(count, -t, t, out=row)
            elif order == "late":
                torch.sub(count, count.clamp(t - steps, steps - t), out=row)
            else:
                torch.trunc(count * t / steps, out=row)
    return emitted


def follow(
    targets: Tensor, previous: Tensor, least: int = -1, seen: Callable[[Tensor], None] | None = None
) -> Tensor:
    """Counts that go towards a moving target, one spike per step: ``N_t = N_{t-1} + clip(k_t - N_{t-1}, least, 1)``.

    With membrane ``u = v - N_{t-1}`` and target ``k = floor(v)`` this is integrate and fire: ``u >= 1`` just
    where ``k > N_{t-1}``, and ``u < 0`` just where ``k < N_{t-1}``. Targets clipped to bounds keep the counts
    within them, which is all that a spike tracer does.

    Args:
        targets: The count to go to at each step, integers as floating-point numbers; overwritten.
        previous: Counts before the first of the steps.
        least: -1 if negative spikes are possible, else 0.
        seen: Told of the spikes of every step, which are overwritten afterwards.

    Shape:
        ``[t, ...]`` and ``[...]`` to ``[t, ...]``.

    Example:
        >>> follow(torch.tensor([2.0, 2.0, 2.0, -1.0]), torch.tensor(0.0))
        tensor([1., 2., 2., 1.])
    """
    with plain_functions():
        for row in targets:
            # Three passes over one step, in place.
            spikes = row.sub_(previous).clamp_(least, 1)
            if seen is not None:
                seen(spikes)
            previous = spikes.add_(previous)
    return targets


def parallel_fire(
    current: Tensor,
    threshold: Tensor,
    initial: float = 0.5,
    shift: Tensor | None = None,
    height: Tensor | None = None,
    order: SpikeOrder = "early",
    signed: bool = False,
) -> Tensor:
    """Emit all spikes of a window at once from the mean current.

    The count is ``k = clip(floor(sum_t (current[t] + shift) / threshold + initial), 0, T)``, so the time mean
    of the output is the QCFS of the mean current with T levels. Not causal: a spike at step t may depend on
    later input.

    Args:
        current: Input per step, in units of membrane potential.
        threshold: Firing threshold, > 0, broadcastable to one step.
        initial: Membrane at the start, as a fraction of the threshold, in [0, 1).
        shift: Constant added to the current of every step, broadcastable to one step.
        height: Value of one spike; the threshold if not given.
        order: Where the k spikes go: ``"early"``, ``"late"`` or ``"even"``.
        signed: Whether the count may be negative, down to -T.

    Shape:
        ``[T, B, ...]`` to ``[T, B, ...]`` with values in {0, height}, and -height when signed.

    Raises:
        ValueError: A threshold is not positive.

    Reference:
        Hao et al., ICML 2025.

    Example:
        >>> parallel_fire(torch.tensor([0.0, 2.2, 0.0, 0.0]), torch.tensor(1.0))
        tensor([1., 1., 0., 0.])
    """
    threshold = _positive(threshold, current)
    steps = current.shape[0]
    mean = current.mean(0) if shift is None else current.mean(0) + shift
    count = (mean / (threshold / steps) + initial).floor().clamp(-steps if signed else 0, steps)
    emitted = place_spikes(count, range(steps + 1), steps, order)
    return emitted.diff(dim=0) * (threshold if height is None else height)


def integrate_fire(
    current: Tensor, threshold: Tensor, initial: float = 0.5, signed: bool = False
) -> tuple[Tensor, Tensor]:
    """Integrate and fire with soft reset: at most one spike per step.

    ``v += current[t]``; a spike of height ``threshold`` when ``v >= threshold``, then ``v -= spike``. The
    signed form also emits a negative spike when ``v < 0``.

    Args:
        current: Input per step.
        threshold: Firing threshold, > 0, broadcastable to one step.
        initial: Membrane at the start, as a fraction of the threshold.
        signed: Whether negative spikes are possible.

    Shape:
        ``[T, B, ...]`` to spikes ``[T, B, ...]`` and the final membrane ``[B, ...]``.

    Raises:
        ValueError: A threshold is not positive.

    Example:
        >>> spikes, membrane = integrate_fire(torch.full((4,), 0.5), torch.tensor(1.0))
        >>> spikes, membrane
        (tensor([1., 0., 1., 0.]), tensor(0.5000))
    """
    threshold = _positive(threshold, current)
    membrane = torch.zeros_like(current[0]) + initial * threshold
    spikes = torch.empty_like(current)
    for t, incoming in enumerate(current):
        membrane = membrane + incoming
        fired = (membrane >= threshold).to(current.dtype)
        if signed:
            fired = fired - (membrane < 0).to(current.dtype)
        spikes[t] = fired * threshold
        membrane = membrane - spikes[t]
    return spikes, membrane


def st_bif(current: Tensor, threshold: Tensor, qmin: int, qmax: int) -> Tensor:
    """Bipolar integrate and fire with a spike tracer.

    With membrane q (in thresholds, 1/2 at the start) and tracer a: ``q += current[t]/threshold``; +1 when ``q
    >= 1`` and ``a < qmax``; -1 when ``q < 0`` and ``a > qmin``; then ``a += spike`` and ``q -= spike``. Once
    settled, the sum of the spikes is the LSQ code of the sum of the input.

    Shape:
        ``[T, B, ...]`` to ``[T, B, ...]`` with values in {-threshold, 0, threshold}.

    Raises:
        ValueError: A threshold is not positive, or ``qmax`` is less than 1.

    Reference:
        You et al., SpikeZIP-TF, ICML 2024.

    Example:
        >>> st_bif(torch.tensor([2.2, 0.0, -3.0, 0.0]), torch.tensor(1.0), qmin=0, qmax=7)
        tensor([ 1.,  1., -1., -1.])
    """
    threshold = _positive(threshold, current)
    if qmax < 1:
        raise ValueError(f"qmax must be at least 1; got {qmax}")
    membrane = torch.full_like(current[0], 0.5)
    tracer = torch.zeros_like(membrane)
    spikes = torch.empty_like(current)
    for t, incoming in enumerate(current):
        membrane = membrane + incoming / threshold
        up = (membrane >= 1) & (tracer < qmax)
        down = (membrane < 0) & (tracer > qmin)
        spike = up.to(current.dtype) - down.to(current.dtype)
        tracer, membrane = tracer + spike, membrane - spike
        spikes[t] = spike * threshold
    return spikes


def _positive(threshold: Tensor | float, like: Tensor) -> Tensor:
    threshold = torch.as_tensor(threshold, dtype=like.dtype, device=like.device)
    if not bool((threshold > 0).all()):
        raise ValueError(f"threshold must be positive; the smallest is {float(threshold.min())}")
    return threshold
