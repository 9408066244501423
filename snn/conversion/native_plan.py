"""The plan of a network that spikes by itself: nothing becomes anything, but which products take spikes is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from snn.conversion.call import first_sample
from snn.conversion.folding import fold
from snn.conversion.native_watch import Site, is_native, watch_native
from snn.conversion.plan_table import Cell, aligned
from snn.conversion.products import Product
from snn.conversion.step_watch import watch_steps
from snn.conversion.trace import Trace
from snn.errors import ConversionError
from snn.neurons.simulated import SimulatedNetwork

_COLUMNS = ["layer", "operation", "input", "number", "MACs", "parameters"]
_LEGEND = """One line stands for all layers in it, numbers are their sums, work is per sample and step.
Sums of spikes are residual sums and averages; counts are products of spikes; «sum» is one that goes into a neuron;
«once» is computed once per sample."""


@dataclass(frozen=True)
class Work:
    """One operation.

    Args:
        product: What is computed, per sample and step.
        feeds: What goes into it, in words.
    """

    product: Product
    feeds: str


class NativePlan:
    """What a network that spikes by itself computes; ``print`` shows a table.

    Args:
        model: The network.
        work: What it computes, in order of execution.
        trace: The same, as it is of a quantised network.
        neurons: How many each layer has, per sample.
    """

    def __init__(self, model: nn.Module, work: Sequence[Work], trace: Trace, neurons: Mapping[str, int]):
        self.model, self.work, self.trace, self.neurons = model, work, trace, neurons
        self._modules = dict(model.named_modules())

    def __str__(self) -> str:
        macs = self.trace.spiking_macs + self.trace.analog_macs
        folded = fold(self.work, lambda w: w.product.module, lambda w: (w.product.op, w.feeds))
        lines = aligned(_COLUMNS, [self._cells(name, same) for name, same in folded], numbers=3)
        totals = (
            f"{sum(self.neurons.values()):,} neurons in {len(self.neurons)} layers; "
            f"{sum(p.numel() for p in self.model.parameters()):,} parameters; "
            f"{macs:,} multiply-accumulates per sample and step\n{self.trace.verdict}"
        )
        return "\n\n".join(["\n".join(lines), _LEGEND, totals])

    def _cells(self, name: str, same: Sequence[Work]) -> list[Cell]:
        modules = {self._modules[w.product.module] for w in same if w.product.module in self._modules}
        own = sum(p.numel() for module in modules for p in module.parameters(recurse=False))
        first, macs = same[0], sum(w.product.macs for w in same)
        return [name, first.product.op, first.feeds, len(same), macs, own or None]


def native_plan(model: nn.Module, inputs: Mapping[str, Tensor]) -> NativePlan:
    """Watch one forward of one sample.

    Args:
        model: A network that spikes by itself, in evaluation mode.
        inputs: Model inputs on its device, of which the first row is taken.

    Raises:
        ConversionError: Neurons that cannot be followed, a product whose factors cannot be seen, or steps that differ.
    """
    if isinstance(model, SimulatedNetwork):
        steps = watch_steps(model, first_sample(inputs))
        each = zip(steps.products, steps.starts)
        work = [Work(p, p.factors if start is not None else f"{p.factors}, once") for p, start in each]
        trace = Trace(tuple(steps.products), tuple(steps.dense), {}, steps.inputs)
        return NativePlan(model, work, trace, steps.neurons)
    if not is_native(model):
        raise ConversionError(f"plan: the neurons of a {type(model).__name__} cannot be followed")
    seen = watch_native(model, inputs)
    work = [Work(site.product, _what_feeds(site)) for site in seen.operators()]
    return NativePlan(model, work, seen.trace(), {name: max(at) for name, at in seen.membranes.items()})


def _what_feeds(site: Site) -> str:
    summed = any(events is not None and not events.alone for events in site.events)
    if summed and site.product.op != "sum":
        return site.product.factors.replace("spikes", "sums of spikes")
    return site.product.factors
