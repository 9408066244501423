"""Counting spikes while a network runs: per layer, per time step, per sample, per token; padding is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from snn.functional.fire import place_spikes
from snn.functional.padding import current_mask
from snn.neurons.base import Neuron
from snn.neurons.run import Event, Run


@dataclass(frozen=True)
class Selection:
    """Some of a layer's neurons, to be counted apart, each with a weight.

    Args:
        token: Position of the one token whose neurons count; ``None``: all.
        weights: Weight of each neuron of a sample, in the order of the layer's output, ``[n]``; ``None``: 1.
    """

    token: int | None = None
    weights: Tensor | None = None


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

    neuron: Neuron
    mask: Tensor | None
    neurons: Tensor
    #: Per chunk: positive and negative spikes ``[t, B]``, and selected ones ``[selections, t, B]``.
    chunks: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    #: Spikes of every neuron so far, ``[rows, ...]``; dropped once they are summed up.
    fired: Tensor | None = None
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
        positive, negative, selected, fired = count(run, event, mask, selections)
        layer = self._layers.get(name)
        if layer is None:
            layer = self._layers[name] = _Layer(neuron, mask, _neurons(run, sample, mask))
        samples = len(layer.neurons)
        if (
            run.rows is not None and samples > run.rows.numel()
        ):  # nothing is computed of some samples any more
            parts = (_among_all(x, run, samples) for x in (positive, negative, selected))
            positive, negative, selected = parts
        layer.chunks.append((positive, negative, selected))
        if layer.fired is None:
            layer.fired = fired
        elif len(fired) == len(layer.fired):
            layer.fired += fired
        else:
            whole = layer.fired.unflatten(0, (samples, -1))
            whole[run.rows] += run.by_sample(fired)
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
        fired, samples = layer.fired, len(layer.neurons)
        assert fired is not None
        assert self._run is not None
        per_sample = fired.reshape(samples, -1)
        silent = layer.neurons - (per_sample > 0).sum(1)
        always = (per_sample == self._run.T).sum(1).double()
        tokens = there = None
        if layer.mask is not None:
            by_token = (lambda x: x.sum(-1)) if fired.dim() == 3 else (lambda x: x.sum((1, 3)))
            tokens = by_token(fired).double()
            share = fired[0].numel() // layer.mask[0].numel()
            there = by_token(layer.mask).double() * share
        layer.fired, layer.summed = None, (silent, always, tokens, there)


def _neurons(run: Run, sample: Tensor, mask: Tensor | None) -> Tensor:
    values = run.by_sample(sample).flatten(1)
    if mask is None:
        return values.new_full((values.shape[0],), values.shape[1], dtype=torch.float64)
    return mask.flatten(1).sum(1, dtype=torch.float64) * (values.shape[1] // mask[0].numel())


def _among_all(spikes: Tensor, run: Run, samples: int) -> Tensor:
    whole = spikes.new_zeros(*spikes.shape[:-1], samples)
    whole[..., run.rows] = spikes
    return whole


Counted = tuple[Tensor, Tensor, Tensor, Tensor]


def _differences(run: Run, event: Event, mask: Tensor | None, selections: Sequence[Selection]) -> Counted:
    """Positive, negative and selected spikes of each step, and the spikes of every neuron."""
    positive, negative, selected, previous = [], [], [], event.previous
    fired = torch.zeros_like(event.counts[-1])
    for counts in event.counts:
        spikes = counts - previous
        if mask is not None:
            spikes *= mask
        # Whole numbers below 2**24 add up exactly in single precision.
        net = run.by_sample(spikes).flatten(1).sum(1)
        spikes = spikes.abs_()
        fired += spikes
        total = run.by_sample(spikes).flatten(1).sum(1)
        positive.append((total + net) / 2)
        negative.append((total - net) / 2)
        selected.append([_chosen(run, spikes, one) for one in selections])
        previous = counts
    return (
        torch.stack(positive).double(),
        torch.stack(negative).double(),
        _stacked(selected, positive[0]),
        fired,
    )


def _stacked(selected: list[list[Tensor]], like: Tensor) -> Tensor:
    """``[selections, t, B]`` of what was chosen step by step."""
    if not selected[0]:
        return like.new_zeros(0, len(selected), len(like), dtype=torch.float64)
    return torch.stack([torch.stack(step) for step in selected], 1).double()


def _chosen(run: Run, spikes: Tensor, selection: Selection) -> Tensor:
    values = _taken(run, spikes, selection)
    return values.sum(1) if selection.weights is None else values @ selection.weights.to(values)


def _taken(run: Run, values: Tensor, selection: Selection) -> Tensor:
    """The neurons of a selection, ``[B, n]``."""
    if selection.token is not None:
        values = values.select(1 if values.dim() == 3 else 2, selection.token)
    return run.by_sample(values).flatten(1)


def _from_final_counts(
    run: Run, event: Event, mask: Tensor | None, selections: Sequence[Selection]
) -> Counted:
    """The final count decides every spike, so a histogram of the counts of each sample tells all."""
    count = event.counts[-1]
    if mask is not None:
        count = count * mask
    codes = torch.arange(-run.T, run.T + 1, dtype=torch.float64, device=count.device)
    spikes = place_spikes(codes, range(run.T + 1), run.T, event.neuron.order).diff(dim=0)  # type: ignore[arg-type]

    def over_time(values: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        histogram = _histogram(values, run.T, weights)
        return spikes.clamp_min(0) @ histogram.T, (-spikes).clamp_min(0) @ histogram.T

    positive, negative = over_time(run.by_sample(count).flatten(1))
    chosen = [sum(over_time(_taken(run, count, one), one.weights)) for one in selections]
    selected = torch.stack(chosen) if chosen else positive.new_zeros(0, *positive.shape)  # type: ignore[arg-type]
    return positive, negative, selected, count.abs()


def _histogram(counts: Tensor, T: int, weights: Tensor | None) -> Tensor:
    """How often each count from -T to T occurs in each row, ``[B, 2T+1]``."""
    bins = 2 * T + 1
    index = counts.to(torch.int64) + T
    index += bins * torch.arange(index.shape[0], device=index.device)[:, None]
    each = None if weights is None else weights.to(index.device).double().expand(index.shape).flatten()
    found = torch.bincount(index.flatten(), each, minlength=bins * index.shape[0])
    return found.reshape(-1, bins).double()
