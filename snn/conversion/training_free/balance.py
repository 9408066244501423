"""Local threshold balancing: thresholds chosen for what integrate-and-fire neurons do with spiking inputs.

A threshold that suits the mean input need not suit spikes that arrive unevenly. Layer by layer, with all
layers before it spiking, each channel takes the threshold for which the neuron's output over T steps has the
least squared error against what the float network does there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from snn.conversion.training_free.arrivals import Arrivals, arrivals
from snn.conversion.training_free.branches import reference_branch
from snn.conversion.training_free.reference import reference_activation
from snn.errors import ConversionError
from snn.functional.fire import follow
from snn.quantizers.base import Quantizer

#: Candidates, as multiples of the threshold that is there.
_SCALES = torch.linspace(0.4, 1.6, 25)


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
        rows: See :func:`~snn.conversion.training_free.arrivals.arrivals`.
        samples: Likewise.

    Raises:
        ConversionError: No batch, or quantisers that integrate-and-fire is no twin of.
    """
    relu = reference_activation("relu")

    def target(quantizer: Quantizer, x: Tensor) -> Tensor:
        return relu(x, x, quantizer.signed)

    ideal = reference_branch(model, relu)
    found = arrivals(
        model, batches, T, ideal=ideal, target=target, initial=initial, rows=rows, samples=samples
    )
    for at in found:
        # In place of set_threshold, which would put shift and height back.
        at.quantizer.threshold.data = _best(at, initial).to(at.quantizer.threshold)
    return model


def _best(at: Arrivals, initial: float) -> Tensor:
    scales, errors = _SCALES.to(at.charge), []
    for scale in scales:
        k = (at.charge / (scale * at.threshold) + initial).floor_()
        count = follow(k, torch.zeros_like(k[0]), least=at.least)[-1]
        errors.append((count * (scale * at.height / len(at.charge)) - at.target).square_().sum(0))
    if not errors[0].isfinite().all():
        raise ConversionError("activations are not finite while thresholds were balanced")
    return at.threshold * scales[torch.stack(errors).argmin(0)]
