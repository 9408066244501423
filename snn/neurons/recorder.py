"""Counting spikes while a network runs: per layer, per time step, per sample, per token; padding is left out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from snn.functional.fire import SpikeOrder, place_spikes
from snn.functional.padding import current_mask
from snn.neurons.base import Neuron
from snn.neurons.run import Event, Run

#: Values that a core's second cache holds a few times over; passes over more of them wait for memory.
_CACHED = 2**16


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
        """The weights, one for each of ``values``, ``[B, n]``."""
        if self.weights is None:
            return None
        return self.weights.to(values).repeat(values.shape[1] // len(self.weights))


@dataclass
class LayerSpikes:
    """Spikes of one layer in one forward.

    Args:
        positive: Spikes of value +1 at each step, ``[T, B]``.
        negative: Spikes of value -1 at each step, ``[T, B]``.
        neurons: Neurons that could have fired, ``[B]``; padding does not count.
        silent: Neurons that never fired, ``[B]``.
        always: Neurons that fired at each of the T steps, ``[B]``.
        selected: Spikes of either sign of each selection, weighted, ``[selections, T, B]``.
        tokens: Spikes of either sign at each token position, over all steps, ``[B, S]``; ``None`` for a layer
            without tokens, or inputs without a mask that would tell where tokens are.
        token_neurons: Neurons at each position, ``[B, S]``; 0 for padding.
    """

    positive: Tensor
    negative: Tensor
    neurons: Tensor
    silent: Tensor
    always: Tensor
    selected: Tensor
    tokens: Tensor | None = None
    token_neurons: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """Spikes of either sign, ``[T, B]``."""
        return self.positive + self.negative


@dataclass
class _Layer:
    """What has been counted of a layer so far."""

    mask: Tensor | None
    neurons: Tensor
    #: Per chunk: positive and negative spikes ``[t, B]``, and selected ones ``[selections, t, B]``.
    chunks: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    #: Spikes of every neuron so far, ``[rows, ...]``; dropped once they are summed up.
    fired: Tensor | None = None
    #: Silent and always-firing neurons, where they are known already.
    idle: tuple[Tensor, Tensor] | None = None
    #: Silent and always-firing neurons, spikes and neurons by token.
    summed: tuple[Tensor, Tensor, Tensor | None, Tensor | None] | None = None


class SpikeRecorder:
    """Observer of a run that counts every layer's spikes.

    Nothing is recorded for a causal neuron in a collapsed run: its final count does not tell how many spikes
    came and were taken back.

    Args:
        names: What each neuron is called; further calls of one are called ``name#1`` and so on.
        selections: By layer, what is counted apart.
    """

    def __init__(
        self, names: Mapping[nn.Module, str], selections: Mapping[str, Sequence[Selection]] | None = None
    ):
        self._names = names
        self._selections = selections or {}
        self._layers: dict[str, _Layer] = {}
        self._run: Run | None = None

    def __call__(self, run: Run, event: Event) -> None:
        neuron = event.neuron
        assert isinstance(neuron, Neuron)
        if run.collapsed and neuron.causal:
            return
        self._run = run
        name = self._names[neuron] + (f"#{event.call}" if event.call else "")
        selections = self._selections.get(name, ())
        sample = event.counts[-1]
        mask = current_mask(sample, neuron.over_keys)
        count = _differences if neuron.causal else _from_final_counts
        chunk = count(run, event, mask, selections)
        layer = self._layers.get(name)
        if layer is None:
            layer = self._layers[name] = _Layer(mask, _neurons(run, sample, mask))
        samples = len(layer.neurons)
        spikes = chunk.positive, chunk.negative, chunk.selected
        if run.rows is not None and samples > run.rows.numel():
            # Nothing is computed any more of samples that have settled.
            positive, negative, selected = (_among_all(x, run, samples) for x in spikes)
            spikes = positive, negative, selected
        layer.chunks.append(spikes)
        layer.idle = chunk.idle
        if layer.fired is None:
            layer.fired = chunk.fired
        elif len(chunk.fired) == len(layer.fired):
            layer.fired += chunk.fired
        else:
            whole = layer.fired.unflatten(0, (samples, -1))
            whole[run.rows] += run.by_sample(chunk.fired)
        if run.times.stop > run.T:
            self._sum_up(layer)

    def layers(self) -> dict[str, LayerSpikes]:
        """Spikes of the whole run by layer name."""
        result = {}
        for name, layer in self._layers.items():
            if layer.summed is None:  # every sample had settled before T
                self._sum_up(layer)
            assert layer.summed is not None
            positive, negative, selected = (torch.cat(parts, -2) for parts in zip(*layer.chunks))
            silent, always, tokens, there = layer.summed
            result[name] = LayerSpikes(
                positive, negative, layer.neurons, silent, always, selected, tokens, there
            )
        return result

    def _sum_up(self, layer: _Layer) -> None:
        fired, mask, samples = layer.fired, layer.mask, len(layer.neurons)
        assert fired is not None
        assert self._run is not None
        T = self._run.T
        # Silent, always, tokens of some of the samples.
        parts: list[tuple[Tensor, ...]] = []
        for rows, number in _blocks(fired, samples):
            own, there = fired[rows], None if mask is None else mask[rows]
            tokens = () if there is None else (_by_token(own, there).double(),)
            if layer.idle is None:
                # Sums of numbers of spikes, because a CPU takes ten times as long to count truth values.
                spoke = _total(own.clamp(max=1), there, number)
                tokens = (spoke, _total(own.sub_(T - 1).clamp_(min=0), there, number), *tokens)
            parts.append(tokens)
        whole = [torch.cat(part) for part in zip(*parts)]
        found = whole.pop() if mask is not None else None
        silent, always = layer.idle or (layer.neurons - whole[0], whole[1])
        in_place = None
        if mask is not None:
            in_place = _by_token(mask.double(), mask) * (fired[0].numel() // mask[0].numel())
        layer.fired, layer.summed = None, (silent, always, found, in_place)


def _blocks(x: Tensor, samples: int) -> Iterator[tuple[slice, int]]:
    """Cut a layer, ``[rows, ...]``, so that a core's cache holds each part over several passes.

    Yields:
        Rows of whole samples, and the number of these.
    """
    rows = len(x) // samples
    size = samples if x.device.type != "cpu" else max(1, _CACHED * samples // max(1, x.numel()))
    for start in range(0, samples, size):
        number = min(size, samples - start)
        yield slice(start * rows, (start + number) * rows), number


def _neurons(run: Run, sample: Tensor, mask: Tensor | None) -> Tensor:
    values = run.by_sample(sample).flatten(1)
    if mask is None:
        return values.new_full((values.shape[0],), values.shape[1], dtype=torch.float64)
    return mask.flatten(1).sum(1, dtype=torch.float64) * (values.shape[1] // mask[0].numel())


def _total(x: Tensor, mask: Tensor | None, samples: int) -> Tensor:
    """Sum over the real neurons of each sample, ``[B]``; whole numbers below 2**24 add up exactly."""
    if mask is None:
        return x.reshape(samples, -1).sum(1).double()
    if mask.shape[-1] == 1:  # the mask is small beside what it is for
        x = x.sum(-1, keepdim=True)
    return (x * mask).flatten(1).sum(1).double()


def _by_token(x: Tensor, mask: Tensor) -> Tensor:
    """Sum over the real neurons of each token, ``[B, S]``."""
    if mask.shape[-1] == 1:
        x = x.sum(-1, keepdim=True)
    x = x * mask
    return x.sum(-1) if x.dim() == 3 else x.sum((1, 3))


def _among_all(spikes: Tensor, run: Run, samples: int) -> Tensor:
    whole = spikes.new_zeros(*spikes.shape[:-1], samples)
    whole[..., run.rows] = spikes
    return whole


@dataclass(frozen=True)
class _Chunk:
    """What one layer did in one chunk of time.

    Args:
        positive: Positive spikes, ``[t, B]``.
        negative: Negative spikes, likewise.
        selected: Selected ones of either sign, ``[selections, t, B]``.
        fired: Spikes of every neuron, like a count.
        idle: Silent and always-firing neurons of the whole run, ``[B]`` each, where they are known already.
    """

    positive: Tensor
    negative: Tensor
    selected: Tensor
    fired: Tensor
    idle: tuple[Tensor, Tensor] | None = None


def _differences(run: Run, event: Event, mask: Tensor | None, selections: Sequence[Selection]) -> _Chunk:
    """Positive, negative and selected spikes of each step, and the spikes of every neuron."""
    samples = len(run.by_sample(event.previous))
    fired = torch.zeros_like(event.counts[-1], memory_format=torch.contiguous_format)
    parts = []
    for rows, number in _blocks(fired, samples):
        steps = event.counts[:, rows], event.previous[rows]
        parts.append(
            _spikes_of_steps(*steps, None if mask is None else mask[rows], number, selections, fired[rows])
        )
    net, total, selected = (torch.cat(part, -1) for part in zip(*parts))
    return _Chunk((total + net) / 2, (total - net) / 2, selected, fired)


def _spikes_of_steps(
    over_time: Tensor,
    previous: Tensor,
    mask: Tensor | None,
    samples: int,
    selections: Sequence[Selection],
    fired: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum, number and selected number of the spikes at each step, ``[t, B]`` and ``[selections, t, B]``.

    Args:
        over_time: Counts at each step.
        previous: Counts before the first.
        mask: Which are real.
        samples: Among how many the rows are.
        selections: What is counted apart.
        fired: Spikes of every neuron, to which these are added.
    """
    nets, totals = [], []
    selected: list[list[Tensor]] = [[] for _ in selections]
    spikes = torch.empty_like(fired)  # contiguous, whatever a channels-last network hands over
    rows = spikes.view(samples, -1) if mask is None else spikes
    for counts in over_time:  # in place and row by row, because every pass over a layer counts
        torch.sub(counts, previous, out=spikes)
        if mask is not None and mask.shape[-1] > 1:
            spikes *= mask
        nets.append(rows.sum(-1))
        fired += spikes.abs_()
        totals.append(rows.sum(-1))
        for one, chosen in zip(selections, selected):
            values = _taken(spikes, samples, mask, one)
            weights = one.weight_of(values)
            chosen.append((values.sum(1) if weights is None else values @ weights).double())
        previous = counts
    net, total = torch.stack(nets), torch.stack(totals)
    if mask is not None:
        real = mask.any(-1)
        net, total = ((x * real).flatten(2).sum(2) for x in (net, total))
    stacked = [torch.stack(chosen) for chosen in selected]
    found = torch.stack(stacked) if stacked else total.new_zeros(0, *total.shape)
    return net.double(), total.double(), found.double()


def _taken(values: Tensor, samples: int, mask: Tensor | None, selection: Selection) -> Tensor:
    """The neurons of a selection, padding zero, ``[B, n]``."""
    if selection.token is not None:
        axis = 1 if values.dim() == 3 else 2
        values = values.select(axis, selection.token)
        mask = None if mask is None else mask.select(axis, selection.token)
    return (values if mask is None else values * mask).unflatten(0, (samples, -1)).flatten(1)


def _from_final_counts(
    run: Run, event: Event, mask: Tensor | None, selections: Sequence[Selection]
) -> _Chunk:
    """The final count decides every spike, so a histogram of the counts of each sample tells all."""
    count = event.counts[-1]
    samples = len(run.by_sample(count))
    spikes = _spikes_of_counts(run.T, event.neuron.order).to(count.device)
    histogram = _histogram(_taken(count, samples, mask, Selection()), run.T)
    positive, negative = spikes.clamp_min(0) @ histogram.T, (-spikes).clamp_min(0) @ histogram.T
    parts = [(_taken(count, samples, mask, one), one) for one in selections]
    chosen = [spikes.abs() @ _histogram(x, run.T, one.weight_of(x)).T for x, one in parts]
    selected = torch.stack(chosen) if chosen else positive.new_zeros(0, *positive.shape)
    padding = histogram.sum(1) - _neurons(run, count, mask)
    idle = histogram[:, run.T] - padding, histogram[:, 0] + histogram[:, -1]
    return _Chunk(positive, negative, selected, count.abs(), idle)


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
