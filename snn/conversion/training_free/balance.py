"""Local threshold balancing: thresholds chosen for what integrate-and-fire neurons do with spiking inputs.

A threshold that suits the mean input need not suit spikes that arrive unevenly. Layer by layer, with all
layers before it spiking, each channel takes the threshold for which the neuron's output over T steps has the
least squared error against what the float network does there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from snn.conversion.agreement import slices
from snn.conversion.call import labels_removed
from snn.conversion.convert import convert
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.branches import calls_in_order, ready, reference_branch, run
from snn.conversion.training_free.pairs import keep_rows
from snn.conversion.training_free.reference import reference_activation
from snn.errors import ConversionError
from snn.functional.fire import follow
from snn.neurons.run import Event, Run
from snn.quantizers.base import Quantizer
from snn.quantizers.observation import sample_rows

#: Candidates, as multiples of the threshold that is there.
_SCALES = torch.linspace(0.4, 1.6, 25)


class _Enough(Exception):
    """The layer has run."""


@torch.no_grad()
def balance(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    T: int,
    *,
    initial: float = 0.5,
    rows: int = 4096,
    samples: int = 256,
) -> nn.Module:
    """Choose every threshold anew for spiking inputs.

    Args:
        model: A calibrated network of QCFS quantisers; changed in place. Each layer's search starts from the
            threshold that it has.
        batches: Model inputs; ``labels`` are ignored.
        T: Number of time steps of the spiking network that is to be made.
        initial: Membrane at the start, as a fraction of the threshold.
        rows: Neurons per channel and layer whose spikes are looked at, over all batches.
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
    ideal = reference_branch(model, reference_activation("relu"))
    budget = max(1, rows // len(taken))
    for layer, calls in calls_in_order(model, taken[0], quantizers(model)).items():
        network = convert(model, "integrate_fire", T, initial=initial)
        parts, targets = [], []
        for turn, batch in enumerate(taken):
            parts.append(_charges(network, batch, layer, calls, budget, turn))
            wanted: list[Tensor] = []
            run(ideal, batch, {layer: keep_rows(wanted, budget, turn)}, calls)
            targets.append(torch.cat(wanted))
        quantizer = model.get_submodule(layer)
        assert isinstance(quantizer, Quantizer)
        target = torch.cat(targets)
        best = _best(
            quantizer, torch.cat(parts, 1), target if quantizer.signed else target.clamp_min(0), initial
        )
        # In place of set_threshold, which would put shift and height back.
        quantizer.threshold.data = best.to(quantizer.threshold)
    model.train(training)
    return model


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


def _best(quantizer: Quantizer, charges: Tensor, target: Tensor, initial: float) -> Tensor:
    threshold = quantizer.positive_threshold().detach()
    gain = quantizer.corrections()[1]
    height = threshold if gain is None else threshold * gain
    errors = []
    for scale in _SCALES.to(charges):
        k = (charges / (scale * threshold) + initial).floor_()
        count = follow(k, torch.zeros_like(k[0]), least=-1 if quantizer.signed else 0)[-1]
        errors.append((count * (scale * height / len(charges)) - target).square_().sum(0))
    if not errors[0].isfinite().all():
        raise ConversionError("activations are not finite while thresholds were balanced")
    return threshold * _SCALES.to(charges)[torch.stack(errors).argmin(0)]
