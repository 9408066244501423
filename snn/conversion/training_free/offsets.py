"""Charge that integrate-and-fire neurons get beside their input, so that few steps do what many would.

Spikes arrive late in deep layers, and unevenly, so a neuron that starts half way to its threshold fires too seldom
or too often. Layer by layer, with all layers before it spiking, each channel gets the charge with which its output
is closest to what it ought to be: once, at the start (``membrane``: an optimised initial membrane), or at every
step (``steps``: a shift per step, or temporal bias), where what has been emitted by then is what counts.

Closest is what leaves least in the next layer, which adds up many neurons: errors that differ from neuron to neuron
cancel out there, and an error that a whole channel shares does not. So its square counts :data:`SHARED` times.

Reference:
    Bu et al., AAAI 2022 (optimised potential initialisation) and Wu et al., ECCV 2024 (forward temporal bias
    correction) pose the two problems; the rule is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from snn.conversion.quantize import quantizers
from snn.conversion.training_free.arrivals import Arrivals, arrivals, height_of
from snn.conversion.training_free.rules import emitted
from snn.errors import ConversionError
from snn.functional.fire import follow
from snn.quantizers.base import Quantizer

KINDS = ("membrane", "steps")
#: Neurons that a later one adds up, roughly: 1 would be least squares.
SHARED = 30
#: Candidates in thresholds; of equally good ones the first, so the smallest, is taken.
_CHARGES = torch.tensor(sorted((i / 20 for i in range(-30, 31)), key=abs))


@torch.no_grad()
def set_offsets(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    T: int,
    kind: str = "steps",
    *,
    trained: nn.Module | None = None,
    initial: float = 0.5,
    rows: int = 4096,
    samples: int = 256,
) -> nn.Module:
    """Choose what integrate-and-fire neurons get beside their input.

    Args:
        model: A calibrated network of QCFS quantisers. They get the offsets and take no notice of them; the neurons
            do that they are converted to.
        batches: Model inputs; ``labels`` are ignored.
        T: Number of time steps of the spiking network that is to be made.
        kind: ``membrane``: one charge per channel, at the start; ``steps``: another at every step.
        trained: The quantised network whose layers' outputs neurons ought to put out, such as one of more levels than
            T that this one was made from; ``None``: the model itself.
        initial: Membrane at the start without them, as a fraction of the threshold.
        rows: See :func:`~snn.conversion.training_free.arrivals.arrivals`.
        samples: Likewise.

    Raises:
        ConversionError: No batch, or quantisers that integrate-and-fire is no twin of.
    """
    drop_offsets(model)
    choose = {"membrane": _membrane, "steps": _steps}[kind]
    ideal = model if trained is None else trained
    found = arrivals(
        model, batches, T, ideal=ideal, target=_quantised, initial=initial, rows=rows, samples=samples
    )
    for at in found:
        at.quantizer.offset = choose(at, initial).to(at.quantizer.threshold)
    return model


def _quantised(quantizer: Quantizer, x: Tensor) -> Tensor:
    return emitted(quantizer, x) * height_of(quantizer)


def drop_offsets(model: nn.Module) -> None:
    """Let neurons start, and go on, without."""
    for quantizer in quantizers(model).values():
        quantizer.offset = None


def _membrane(at: Arrivals, initial: float) -> Tensor:
    """``[1, C]``: judged by the count at T."""
    charge, wanted = at.charge / at.threshold + initial, at.target / at.height * len(at.charge)
    candidates, errors = _CHARGES.to(charge), []
    for extra in candidates:
        targets = (charge + extra).floor_()
        counts = follow(targets, torch.zeros_like(wanted), least=at.least)[-1]
        errors.append(_error(counts - wanted))
    return candidates[_best(errors)][None]


def _steps(at: Arrivals, initial: float) -> Tensor:
    """``[T, C]``: at each step judged by the count so far."""
    charge, wanted = at.charge / at.threshold + initial, at.target / at.height
    candidates, chosen = _CHARGES.to(charge), []
    count = torch.zeros_like(wanted)
    for t, arrived in enumerate(charge, start=1):
        after = [follow((arrived + extra).floor_()[None], count, least=at.least)[0] for extra in candidates]
        best = _best([_error(counts - t * wanted) for counts in after])
        count = torch.stack(after).gather(0, best.expand(1, *count.shape))[0]
        chosen.append(candidates[best])
    return torch.stack(chosen)


def _error(gap: Tensor) -> Tensor:
    """What gaps ``[rows, C]`` leave in the next layer, ``[C]``."""
    shared = gap.mean(0).square()
    return gap.square().mean(0) + (SHARED - 1) * shared


def _best(errors: list[Tensor]) -> Tensor:
    """Index of each channel's least error."""
    if not errors[0].isfinite().all():
        raise ConversionError("activations are not finite while offsets were chosen")
    return torch.stack(errors).argmin(0)
