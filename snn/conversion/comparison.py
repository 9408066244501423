"""Comparing every neuron's counts with the codes of the quantiser in its place, while a network runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model
from snn.conversion.layer_error import LayerError
from snn.conversion.quantize import quantizers
from snn.conversion.surgery import place
from snn.errors import ConversionError
from snn.neurons.base import Neuron
from snn.neurons.run import Event, Run
from snn.quantizers.base import Quantizer

#: Rounding that two orders of summation may leave, in units of the last place of the largest input of a
#: layer.
ROUNDING_ULPS = 256

#: Input of every quantiser, by name and number of the call, and the quantiser itself.
Captured = dict[tuple[str, int], tuple[Quantizer, Tensor]]


def capture(model: nn.Module, inputs: dict[str, Any]) -> tuple[Captured, Tensor]:
    """The input of every quantiser, and the logits. Outputs are computed anew when they are wanted."""
    captured: Captured = {}
    calls: dict[str, int] = {}

    def hook(name: str) -> Any:
        def keep(quantizer: Quantizer, args: tuple[Tensor, ...], _output: Tensor) -> None:
            captured[name, calls.get(name, 0)] = quantizer, args[0]
            calls[name] = calls.get(name, 0) + 1

        return keep

    handles = [q.register_forward_hook(hook(name)) for name, q in quantizers(model).items()]
    try:
        return captured, call_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


class Comparison:
    """Observer that adds up each layer's errors, over any number of runs in one chunk of time.

    Args:
        names: Of the neurons, as in the quantised network.
        exact: Whether codes should be equal, so that one that is not wants a reason.

    Raises:
        ConversionError: A neuron has no quantiser, or a quantiser no neuron.
    """

    def __init__(self, names: Mapping[nn.Module, str], exact: bool):
        self.names, self.exact = names, exact
        self.captured: Captured = {}
        self.layers: dict[str, LayerError] = {}
        #: How many counts of a layer changed last after step 0..T.
        self._last_changes: dict[str, Tensor] = {}

    def expect(self, captured: Captured) -> None:
        """Compare the next run with this one of the quantised network."""
        self.captured = captured

    def __call__(self, run: Run, event: Event) -> None:
        name, neuron = self.names[event.neuron], event.neuron
        assert isinstance(neuron, Neuron)
        if (name, event.call) not in self.captured:
            raise ConversionError(
                f"{name} is not in the quantised network: these two networks do not belong together"
            )
        quantizer, wanted_input = self.captured.pop((name, event.call))
        wanted = quantizer(wanted_input)
        label = place(name) + (f"#{event.call}" if event.call else "")
        layer = self.layers.setdefault(label, LayerError(label))
        unit = event.unit if event.unit.dim() < event.counts.dim() else event.unit[-1]
        count = event.counts[-1]
        height = neuron.heightened(unit.expand_as(count))
        real = torch.ones_like(count, dtype=torch.bool) if event.mask is None else event.mask.expand_as(count)
        self._measure(layer, (count * height - wanted)[real], height[real])
        late = right = torch.zeros_like(count, dtype=torch.bool)
        if neuron.exact == "settled":
            final = neuron.final_count(event.aggregate[-1], unit, run)
            late, right = real & (final != count), (final - wanted / height).abs() <= 0.5
            layer.unsettled += int(late.sum())
            self._time(layer, event, real)
        differing = real & ((count - wanted / height).abs() > 0.5)
        if self.exact and bool(differing.any()):
            wanted_input = neuron.shifted(wanted_input)
            _explain(layer, event.aggregate[-1], wanted_input, unit, differing, late, right)

    def finish(self) -> None:
        """Raise if a quantiser has met no neuron."""
        if self.captured:
            raise ConversionError(
                f"{next(iter(self.captured))[0]} has no neuron: these two networks do not belong together"
            )

    @staticmethod
    def _measure(layer: LayerError, difference: Tensor, unit: Tensor) -> None:
        gap = difference.abs()
        # Less than a thousandth of a level is the rounding of count * unit, no other code.
        levels = torch.threshold(gap / unit, 1e-3, 0.0)
        before, size = layer.elements, gap.numel()
        layer.elements += size
        for field, values in (("mean_error", gap), ("mean_levels", levels)):
            total = getattr(layer, field) * before + float(values.sum(dtype=torch.float64))
            setattr(layer, field, total / layer.elements)
        layer.max_error = max(layer.max_error, float(gap.max()))
        layer.differing += int((levels > 0.5).sum())
        layer.off_by_more += int((levels > 1.5).sum())

    def _time(self, layer: LayerError, event: Event, real: Tensor) -> None:
        last = torch.zeros_like(event.counts[0], dtype=torch.int32)
        previous = event.previous
        for t, counts in enumerate(event.counts, start=1):
            last.masked_fill_(counts != previous, t)
            previous = counts
        steps = event.counts.shape[0]
        found = torch.bincount(last[real], minlength=steps + 1)
        found = self._last_changes[layer.name] = self._last_changes.get(layer.name, 0) + found
        reached = found.cumsum(0)
        layer.settled_mean = float((found * torch.arange(steps + 1, device=found.device)).sum() / reached[-1])
        layer.settled_99 = int((reached < 0.99 * reached[-1]).sum())
        layer.settled_last = int(found.nonzero().max())


def _explain(
    layer: LayerError,
    got: Tensor,
    wanted: Tensor,
    unit: Tensor,
    differing: Tensor,
    late: Tensor,
    right: Tensor,
) -> None:
    """Why counts differ from codes: a late one waits if its input is incomplete, or it becomes ``right``."""
    scaled = (wanted / unit + 0.5)[differing]
    moved = ((got - wanted) / unit).abs()[differing]
    distance = (scaled - scaled.round()).abs()
    epsilon = torch.finfo(got.dtype).eps
    rounding = (ROUNDING_ULPS * epsilon * wanted.abs().max() / unit).expand_as(wanted)[differing]
    near = (moved <= rounding) & (distance <= rounding)
    waiting = late[differing] & ~near & (right[differing] | (moved > rounding))
    layer.ties += int(near.sum())
    layer.late += int(waiting.sum())
    layer.carried += int(((moved > rounding) & ~near & ~waiting).sum())
    if bool(near.any()):
        layer.margin = max(layer.margin, float(distance[near].max()))
