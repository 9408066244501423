"""What arrives at one layer of a spiking network after the other, and what it ought to make of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snn.conversion.agreement import slices
from snn.conversion.call import labels_removed
from snn.conversion.convert import convert
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.branches import calls_in_order, ready, run
from snn.conversion.training_free.pairs import keep_rows
from snn.neurons.run import Event, Run
from snn.progress import progress
from snn.quantizers.base import Quantizer
from snn.quantizers.observation import sample_rows


class _Enough(Exception):
    """The layer has run."""


@dataclass
class Arrivals:
    """What some neurons of a layer get when all layers before it spike.

    Args:
        quantizer: The layer's.
        charge: What has arrived by each step, in units of the input.
        target: The mean over time that the output ought to have, in units of the output.

    Shape:
        ``[T, rows, C]`` and ``[rows, C]``; C is 1 for one threshold per tensor.
    """

    quantizer: Quantizer
    charge: Tensor
    target: Tensor

    @property
    def threshold(self) -> Tensor:
        return self.quantizer.positive_threshold().detach()

    @property
    def height(self) -> Tensor:
        return height_of(self.quantizer)

    @property
    def least(self) -> int:
        """-1 if a spike may be negative, else 0."""
        return -1 if self.quantizer.signed else 0


def height_of(quantizer: Quantizer) -> Tensor:
    """Mean output of a neuron in the quantiser's place that fires at every step, ``[C]`` or ``[1]``."""
    threshold, gain = quantizer.positive_threshold().detach(), quantizer.corrections()[1]
    return threshold if gain is None else threshold * gain


@torch.no_grad()
def arrivals(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    T: int,
    *,
    ideal: nn.Module,
    target: Callable[[Quantizer, Tensor], Tensor],
    initial: float,
    rows: int,
    samples: int,
) -> Iterator[Arrivals]:
    """Go from layer to layer; each is looked at after all changes to those before it.

    Args:
        model: A calibrated network of QCFS quantisers, in evaluation mode while this lasts.
        batches: Model inputs; ``labels`` are ignored.
        T: Number of time steps of the spiking network.
        ideal: The network, its quantisers at the same places, whose layers have the inputs that they ought to have.
        target: What a layer ought to make of them: from its quantiser there and rows of its input.
        initial: Membrane at the start, as a fraction of the threshold.
        rows: Neurons per channel and layer that are looked at, over all batches.
        samples: At most so many are run, over all batches, equally many of each and at least one; every one of them
            runs over T steps once per layer.

    Raises:
        ConversionError: No batch, or quantisers that integrate-and-fire is no twin of.
    """
    taken = ready(model, batches)
    each = max(1, samples // len(taken))
    # As few at once as a cache holds over T steps.
    taken = [part for batch in taken for part in slices(next(slices(batch, T=1, rows=each)), T)]
    training = model.training
    model.eval()
    budget = max(1, rows // len(taken))
    order = calls_in_order(model, taken[0], quantizers(model))
    for layer, calls in progress(order.items(), "charges, layer by layer"):
        network = convert(model, "integrate_fire", T, initial=initial)
        parts: list[Tensor] = []
        wanted: list[Tensor] = []
        for turn, batch in enumerate(taken):
            parts.append(_charges(network, batch, layer, calls, budget, turn))
            run(ideal, batch, {layer: keep_rows(wanted, budget, turn)}, calls)
        quantizer, there = model.get_submodule(layer), ideal.get_submodule(layer)
        assert isinstance(quantizer, Quantizer)
        assert isinstance(there, Quantizer)
        yield Arrivals(quantizer, torch.cat(parts, 1), target(there, torch.cat(wanted)))
    model.train(training)


def _charges(
    network: SpikingNetwork, batch: Mapping[str, Tensor], layer: str, calls: int, budget: int, turn: int
) -> Tensor:
    """What has arrived at some neurons of a layer by each step, in units of the input, ``[T, rows, C]``."""
    neuron, kept = network.neurons[layer], []

    def watch(_run: Run, event: Event) -> None:
        if event.neuron is not neuron:
            return
        x = event.aggregate
        axis = neuron.axis if neuron.axis is not None else (1 if x.dim() == 5 else -1)
        where = axis, neuron.threshold.numel() > 1, neuron.over_keys, budget, turn
        steps = [sample_rows(step, *where).transpose(1, 2).flatten(0, 1) for step in x]
        kept.append(torch.stack([t * step for t, step in enumerate(steps, start=1)]))
        if event.call + 1 == calls:
            raise _Enough

    device = next(network.buffers()).device
    try:
        inputs = {k: v.to(device) for k, v in labels_removed(batch).items()}
        network(execution="parallel", record=False, observers=(watch,), **inputs)
    except _Enough:
        pass
    return torch.cat(kept, 1)
