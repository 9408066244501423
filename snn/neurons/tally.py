"""How the spikes of a layer are counted: step by step as they are formed, or all at once from final counts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from snn.functional.fire import SpikeOrder, place_spikes
from snn.functional.plain import plain_functions
from snn.neurons.run import Event


@dataclass(frozen=True)
class Selection:
    """Some of a layer's neurons, to be counted apart, each with a weight.

    Args:
        token: Position of the one token whose neurons count; ``None``: all.
        weights: Weight of each neuron of a sample, in the order of the layer's output, ``[n]``, or of each on the
            last axis, all tokens alike; ``None``: 1.
    """

    token: int | None = None
    weights: Tensor | None = None

    def weight_of(self, values: Tensor) -> Tensor | None:
        """The weights, one for each of ``values``, ``[..., n]``."""
        if self.weights is None:
            return None
        return self.weights.to(values).repeat(values.shape[-1] // len(self.weights))


def real_neurons(event: Event) -> Tensor:
    """Neurons of each sample that are real, ``[B]``."""
    values = event.counts[0].numel() // event.size
    if event.mask is None:
        return torch.full((event.size,), values, dtype=torch.float64, device=event.counts.device)
    return event.mask.flatten(1).sum(1, dtype=torch.float64) * (values // event.mask[0].numel())


def neurons_by_token(event: Event) -> Tensor:
    """Neurons of each token that are real, ``[B, S]``."""
    assert event.mask is not None
    values = event.counts[0, 0].numel() // event.mask[0].numel()
    return _by_token(event.mask.sum(-1, dtype=torch.float64)) * values


@dataclass(frozen=True)
class Part:
    """What some samples of a layer did in one chunk of time.

    Args:
        positive: Positive spikes, ``[t, B]``.
        negative: Negative spikes, likewise.
        selected: Selected ones of either sign, ``[selections, t, B]``.
        tokens: Spikes of either sign at each token position, ``[B, S]``; ``None`` without tokens.
        fired: Spikes of every neuron, like a count.
        idle: Silent and always-firing neurons of the whole run, ``[B]`` each, where they are known already.
    """

    positive: Tensor
    negative: Tensor
    selected: Tensor
    tokens: Tensor | None
    fired: Tensor
    idle: tuple[Tensor, Tensor] | None = None


class Tally:
    """Counts the spikes of a layer step by step.

    Args:
        mask: Which of its neurons are real; ``None``: all.
        samples: How many there are.
        selections: What is counted apart.
        bipolar: Whether a spike may be -1; if not, sums and final counts tell all.
    """

    def __init__(self, mask: Tensor | None, samples: int, selections: Sequence[Selection], bipolar: bool):
        self.mask, self.samples, self.selections, self.bipolar = mask, samples, selections, bipolar
        self.keys = _keys(mask)
        self.net: list[Tensor] = []
        self.norm: list[Tensor] = []
        self.chosen: list[list[Tensor]] = [[] for _ in selections]
        self.fired: Tensor | None = None

    def __call__(self, spikes: Tensor) -> None:
        with plain_functions():
            self._count(spikes)

    def _count(self, spikes: Tensor) -> None:
        if self.keys is not None:
            spikes = spikes * self.keys
        inner = _innermost(spikes, self.mask)
        self.net.append(spikes.sum(inner) if inner else spikes.clone())
        for one, found in zip(self.selections, self.chosen):
            values = _taken(spikes[None], self.mask, self.samples, one).abs()
            weights = one.weight_of(values)
            found.append(values.sum(-1) if weights is None else values @ weights)
        if self.bipolar:
            # Of -1, 0, 1 the square is the size: one pass, and no tensor of sizes.
            self.norm.append(vector_norm(spikes, dim=inner) if inner else spikes.abs())
            self.fired = spikes.square() if self.fired is None else self.fired.addcmul_(spikes, spikes)

    def part(self, event: Event) -> Part:
        """What has been counted of the chunk that ``event`` tells of."""
        rows = torch.stack(self.net).unflatten(1, (self.samples, -1))
        net = total = _sample_sums(rows, self.mask)
        fired = self.fired
        if fired is None:
            fired = event.counts[-1] - event.previous
        else:
            # Roots of what float32 adds up exactly, squared again, are off by less than a half.
            rows = torch.stack(self.norm).square_().round_().unflatten(1, (self.samples, -1))
            total = _sample_sums(rows, self.mask)
        selected = torch.stack([torch.cat(x).double() for x in self.chosen]) if self.chosen else _none(total)
        tokens = _token_sums(rows, self.mask)
        return Part((total + net) / 2, (total - net) / 2, selected, tokens, fired)


def from_final_count(T: int, event: Event, selections: Sequence[Selection]) -> Part:
    """The final count decides every spike, so a histogram of the counts of each sample tells all."""
    count, mask = event.counts[-1:], event.mask
    spikes = _spikes_of_counts(T, event.neuron.order).to(count.device)
    histogram = _histogram(_taken(count, mask, event.size, Selection())[0], T)
    positive, negative = spikes.clamp_min(0) @ histogram.T, (-spikes).clamp_min(0) @ histogram.T
    parts = [(_taken(count, mask, event.size, one)[0], one) for one in selections]
    chosen = [spikes.abs() @ _histogram(x, T, one.weight_of(x)).T for x, one in parts]
    selected = torch.stack(chosen) if chosen else _none(positive)
    padding = histogram.sum(1) - real_neurons(event)
    idle = histogram[:, T] - padding, histogram[:, 0] + histogram[:, -1]
    tokens = None
    if mask is not None:
        size, keys = count.abs() if event.neuron.signed else count, _keys(mask)
        tokens = _token_sums(_row_sums(size if keys is None else size * keys, event.size, mask), mask)
    return Part(positive, negative, selected, tokens, count[0], idle)


@functools.cache
def _spikes_of_counts(T: int, order: SpikeOrder) -> Tensor:
    """Spikes at each step for each final count from -T to T, ``[T, 2T+1]``."""
    codes = torch.arange(-T, T + 1, dtype=torch.float64)
    return place_spikes(codes, range(T + 1), T, order).diff(dim=0)


def _histogram(counts: Tensor, T: int, weights: Tensor | None = None) -> Tensor:
    """How often each count from -T to T occurs in each row, ``[B, 2T+1]``."""
    bins = 2 * T + 1
    index = counts.to(torch.int32)  # half as wide as an index usually is, and twice as fast
    index += T + bins * torch.arange(len(index), dtype=torch.int32, device=index.device)[:, None]
    each = None if weights is None else weights.to(index.device).double().expand(index.shape).flatten()
    found = torch.bincount(index.flatten(), each, minlength=bins * index.shape[0])
    return found.reshape(-1, bins).double()


def idle_neurons(fired: Tensor, mask: Tensor | None, neurons: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """Neurons of each sample that never fired, and that fired at each step, ``[B]``.

    Args:
        fired: How often each did, ``[rows, ...]``.
        mask: Which are real.
        neurons: How many those are, ``[B]``.
        T: Number of steps.
    """
    keys = _keys(mask)
    # Straight into numbers, because a CPU takes ten times as long to count truth values.
    found, room = [], torch.empty_like(fired)
    for least in (1, T):
        number = torch.ge(fired, least, out=room)
        number = number if keys is None else number.mul_(keys)
        found.append(_sample_sums(_row_sums(number[None], len(neurons), mask), mask)[0])
    return neurons - found[0], found[1]


def _keys(mask: Tensor | None) -> Tensor | None:
    """The mask, if it differs along the last axis, where it has to be multiplied; else summing by rows is enough."""
    return mask if mask is not None and mask.shape[-1] > 1 else None


def _taken(values: Tensor, mask: Tensor | None, samples: int, selection: Selection) -> Tensor:
    """The neurons of a selection, padding zero: ``[t, rows, ...]`` to ``[t, B, n]``."""
    if selection.token is not None:
        axis = -2  # of tokens, which have one axis behind theirs
        values = values.select(axis, selection.token)
        mask = None if mask is None else mask.select(axis, selection.token)
    return (values if mask is None else values * mask).unflatten(1, (samples, -1)).flatten(2)


def _row_sums(x: Tensor, samples: int, mask: Tensor | None) -> Tensor:
    """Sums over the innermost values: ``[t, rows, ...]`` to ``[t, B, r, ...]``, and with a mask tokens last, ``[t, B,
    1, S]`` or ``[t, B, 1, heads, S]``."""
    inner = [axis + 1 for axis in _innermost(x[0], mask)]
    return (x.sum(inner) if inner else x).unflatten(1, (samples, -1))


def _innermost(step: Tensor, mask: Tensor | None) -> tuple[int, ...]:
    """Axes of one step with so few small integers that float32 adds them up exactly; in front are rows and tokens."""
    first = 1 if mask is None and step[0].numel() <= 2**21 else min(3, step.dim() - 1)
    return tuple(range(max(first, 1), step.dim()))


def _sample_sums(rows: Tensor, mask: Tensor | None) -> Tensor:
    """Sums over the real neurons of each sample, ``[t, B]``, from those of rows."""
    if mask is not None:
        rows = rows * mask.any(-1)[:, None]
    return rows.double().flatten(2).sum(2)


def _token_sums(rows: Tensor, mask: Tensor | None) -> Tensor | None:
    """Sums over all steps and the real neurons of each token, ``[B, S]``, from those of rows."""
    return None if mask is None else _by_token((rows * mask.any(-1)[:, None]).double().sum(0))


def _by_token(rows: Tensor) -> Tensor:
    """Sum over all axes but samples and tokens: ``[B, ..., S]`` to ``[B, S]``."""
    return rows.reshape(len(rows), -1, rows.shape[-1]).sum(1)


def _none(like: Tensor) -> Tensor:
    return like.new_zeros(0, *like.shape)
