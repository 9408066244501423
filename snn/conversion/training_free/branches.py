"""Two branches side by side: what arrives at a module when quantisers quantise, and what ought to arrive.

The reference branch is a copy of the network in which each quantiser does what the float network does in its
place. Both get the same batches, and of both the same rows are kept, so that rows are pairs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, first_sample, labels_removed
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.reference import Reference
from snn.errors import ConversionError
from snn.functional.padding import valid_positions
from snn.quantizers.base import Quantizer

#: Told of a module and its input, before it runs.
Watch = Callable[[nn.Module, Tensor], None]


class _Enough(Exception):
    """What was asked for has been seen; the rest of the forward is not needed."""


@torch.no_grad()
def run(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    watches: Mapping[str, Watch],
    calls: int | None = None,
) -> None:
    """One forward, in which some modules' inputs are watched.

    Args:
        model: In evaluation mode.
        batch: Model inputs; ``labels`` are ignored.
        watches: By name of the module.
        calls: Stop after so many watched calls; ``None``: go on to the end.
    """
    seen = 0

    def before(watch: Watch) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            nonlocal seen
            watch(module, args[0])
            seen += 1
            if seen == calls:
                raise _Enough

        return hook

    device = next(model.parameters()).device
    inputs = {k: v.to(device) for k, v in labels_removed(batch).items()}
    # Hooks are called in the order in which they came, so ours see what a quantiser before the module made of it.
    handles = [model.get_submodule(n).register_forward_pre_hook(before(w)) for n, w in watches.items()]
    try:
        with valid_positions(inputs.get("attention_mask")):
            call_model(model, inputs)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()


def reference_branch(model: nn.Module, reference: Reference) -> nn.Module:
    """A copy of a calibrated network in which each quantiser does what the reference does."""

    def ideal(quantizer: Quantizer, args: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        x = args[0]
        return reference(x, quantizer.aligned(quantizer.positive_threshold(), x), quantizer.signed)

    branch = copy.deepcopy(model)
    for quantizer in quantizers(branch).values():
        quantizer.register_forward_hook(ideal)
    return branch


def calls_in_order(model: nn.Module, batch: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, int]:
    """How often a forward calls each of the modules, in the order of their last calls; those that it does not
    call are left out."""
    order: dict[str, int] = {}

    def note(name: str) -> Watch:
        def watch(_module: nn.Module, _input: Tensor) -> None:
            order[name] = order.pop(name, 0) + 1

        return watch

    run(model, first_sample(labels_removed(batch)), {n: note(n) for n in names})
    return order


def ready(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> list[Mapping[str, Tensor]]:
    """The batches as a list, once it is clear that there is something to do.

    Raises:
        ConversionError: There is no batch, no quantiser, or one without a threshold.
    """
    found = quantizers(model)
    if not found:
        raise ConversionError("the model has no quantiser: quantise it first (snn.quantize)")
    for name, quantizer in found.items():
        if not quantizer.calibrated:
            raise ConversionError(f"{name} has no threshold yet: calibrate first (snn.calibrate)")
    taken = list(batches)
    if not taken:
        raise ConversionError("no batch to correct the network with")
    return taken
