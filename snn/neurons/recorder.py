"""Counting spikes while a network runs: per layer, per time step, per sample, per token; padding is left out."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snn.functional.plain import plain_functions
from snn.neurons.base import Neuron
from snn.neurons.run import Event, Run, Seen, Watcher
from snn.neurons.tally import Selection, Tally, from_final_count, idle_neurons, neurons_by_token, real_neurons


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

    def until(self, steps: Tensor) -> Tensor:
        """Spikes of either sign up to a step of each sample's own, ``[T, B]``."""
        times = torch.arange(1, len(self.positive) + 1, device=steps.device)
        return self.total * (times[:, None] <= steps)


class SpikeRecorder(Watcher):
    """Observer of a run that counts every layer's spikes.

    Nothing is recorded for a causal neuron in a collapsed run: its final count does not tell how many spikes
    came and were taken back.

    Args:
        names: What each neuron is called; further calls of one are called ``name#1`` and so on.
        selections: By layer, what is counted apart.
    """

    in_parts = True

    def __init__(
        self, names: Mapping[nn.Module, str], selections: Mapping[str, Sequence[Selection]] | None = None
    ):
        self._names = names
        self._selections = selections or {}
        self._layers: dict[str, LayerSpikes] = {}
        #: Where time comes in several chunks: spikes of every neuron so far, and which of them are real, ``[B, ...]``.
        self._open: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._T = 0
        self._tally: Tally | None = None

    def watch(
        self, run: Run, neuron: nn.Module, call: int, mask: Tensor | None, samples: slice
    ) -> Seen | None:
        assert isinstance(neuron, Neuron)
        if run.collapsed or not neuron.causal:
            return None
        selections = self._selected(self._name(neuron, call))
        self._tally = Tally(mask, samples.stop - samples.start, selections, neuron.bipolar)
        return self._tally

    def _name(self, neuron: nn.Module, call: int) -> str:
        return self._names[neuron] + (f"#{call}" if call else "")

    def _selected(self, name: str) -> Sequence[Selection]:
        return self._selections.get(name, ())

    def __call__(self, run: Run, event: Event) -> None:
        with plain_functions():
            self._count(run, event)

    def _count(self, run: Run, event: Event) -> None:
        neuron = event.neuron
        assert isinstance(neuron, Neuron)
        if run.collapsed and neuron.causal:
            return
        name = self._name(neuron, event.call)
        selections = self._selected(name)
        if neuron.causal:
            assert self._tally is not None
            part, times = self._tally.part(event), slice(run.times.start - 1, run.times.stop - 1)
            self._tally = None
        else:
            part, times = from_final_count(run.T, event, selections), slice(0, run.T)
        if name not in self._layers:
            self._layers[name], self._T = _nothing(run.T, event, len(selections)), run.T
        layer = self._layers[name]
        # Of samples that have settled nothing is computed any more.
        samples = event.samples if run.rows is None else run.rows[event.samples]
        layer.positive[times, samples] = part.positive
        layer.negative[times, samples] = part.negative
        layer.selected[:, times, samples] = part.selected
        if times.start == 0:
            layer.neurons[samples] = real_neurons(event)
        if layer.tokens is not None and layer.token_neurons is not None and part.tokens is not None:
            layer.tokens[samples] += part.tokens
            if times.start == 0:
                layer.token_neurons[samples] = neurons_by_token(event)
        if times == slice(0, run.T):
            idle = part.idle or idle_neurons(part.fired, event.mask, layer.neurons[samples], run.T)
            layer.silent[samples], layer.always[samples] = idle
        else:
            self._keep(name, part.fired, samples, event)

    def _keep(self, name: str, fired: Tensor, samples: slice | Tensor, event: Event) -> None:
        """Add the spikes of every neuron, until all have come and it is known which neurons were idle."""
        fired = fired.unflatten(0, (event.size, -1))
        if name not in self._open:
            mask = None if event.mask is None else event.mask.new_zeros(event.batch, *event.mask.shape[1:])
            self._open[name] = fired.new_zeros(event.batch, *fired.shape[1:]), mask
        total, real = self._open[name]
        total[samples] += fired
        if real is not None and event.mask is not None:
            real[samples] = event.mask

    def layers(self) -> dict[str, LayerSpikes]:
        """Spikes of the whole run by layer name."""
        while self._open:
            name, (fired, mask) = self._open.popitem()
            layer = self._layers[name]
            layer.silent, layer.always = idle_neurons(fired.flatten(0, 1), mask, layer.neurons, self._T)
        return self._layers


def _nothing(T: int, event: Event, selections: int) -> LayerSpikes:
    """A layer without any spike."""
    zeros = functools.partial(torch.zeros, dtype=torch.float64, device=event.counts.device)
    batch = event.batch
    result = LayerSpikes(
        zeros(T, batch),
        zeros(T, batch),
        zeros(batch),
        zeros(batch),
        zeros(batch),
        zeros(selections, T, batch),
    )
    if event.mask is not None:
        result.tokens, result.token_neurons = (zeros(batch, event.mask.shape[-2]) for _ in range(2))
    return result
