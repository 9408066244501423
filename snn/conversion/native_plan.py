"""The plan of a network that spikes by itself: nothing becomes anything, but which products take spikes is seen."""

from __future__ import annotations

from torch import nn

from snn.conversion.folding import fold
from snn.conversion.native_watch import NativeWatch, Site
from snn.conversion.plan_table import Cell, aligned

_COLUMNS = ["layer", "operation", "input", "number", "MACs", "parameters"]
_LEGEND = """One line stands for all layers in it, numbers are their sums, work is per sample and step.
Sums of spikes are residual sums and averages; counts are products of spikes; «sum» is one that goes into a neuron."""


class NativePlan:
    """What a network that spikes by itself computes; ``print`` shows a table.

    Args:
        model: The network.
        seen: One forward of it.
    """

    def __init__(self, model: nn.Module, seen: NativeWatch):
        self.model, self.seen = model, seen
        self._modules = dict(model.named_modules())

    def __str__(self) -> str:
        trace, layers = self.seen.trace(), self.seen.membranes
        macs = trace.spiking_macs + trace.analog_macs
        folded = fold(
            self.seen.operators(), lambda s: s.product.module, lambda s: (s.product.op, _what_feeds(s))
        )
        lines = aligned(_COLUMNS, [self._cells(name, sites) for name, sites in folded], numbers=3)
        totals = (
            f"{sum(max(at) for at in layers.values()):,} neurons in {len(layers)} layers; "
            f"{sum(p.numel() for p in self.model.parameters()):,} parameters; "
            f"{macs:,} multiply-accumulates per sample and step\n{trace.verdict}"
        )
        return "\n\n".join(["\n".join(lines), _LEGEND, totals])

    def _cells(self, name: str, sites: list[Site]) -> list[Cell]:
        modules = {self._modules[s.product.module] for s in sites if s.product.module in self._modules}
        own = sum(p.numel() for module in modules for p in module.parameters(recurse=False))
        macs = sum(s.product.macs for s in sites)
        return [name, sites[0].product.op, _what_feeds(sites[0]), len(sites), macs, own or None]


def _what_feeds(site: Site) -> str:
    summed = any(events is not None and not events.alone for events in site.events)
    if summed and site.product.op != "sum":
        return site.product.factors.replace("spikes", "sums of spikes")
    return site.product.factors
