"""Spikes and operations of a network that spikes by itself, counted while it runs.

Its signals are there to be looked at: each factor of a matrix product holds the spikes of its step. So nothing has to
be followed back to neurons, and max-pooling of spikes, gates and products of spikes count as what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics import Metric

from snn.conversion.call import call
from snn.conversion.native_watch import Events, NativeWatch, Site, watch_native
from snn.conversion.products import PRODUCTS
from snn.errors import ConversionError
from snn.evaluation.metrics import SpikeRates
from snn.evaluation.operations import OperationCounts, ProductCount
from snn.neurons.native import intercepted
from snn.neurons.native_spikes import NativeSpikes
from snn.neurons.recorder import LayerSpikes


class NativeMeter:
    """Runs a network and counts, batch by batch.

    Args:
        model: A network with native neurons, in evaluation mode.
        inputs: A batch on its device, from whose first sample its products are learnt.

    Raises:
        ConversionError: A product whose factors cannot be seen.
    """

    def __init__(self, model: nn.Module, inputs: Mapping[str, Tensor]):
        self.model, self.watch = model, watch_native(model, inputs)
        device = next(iter(inputs.values())).device
        self.rates = SpikeRates(list(self.watch.membranes), self.watch.T).to(device)
        frames = any(value.dim() == 5 for value in inputs.values())
        self.operations = NativeOperations(self.watch, input_changes=frames).to(device)

    def __call__(self, inputs: Mapping[str, Tensor]) -> Any:
        """What the network returns."""
        counting = _Counting(self.watch, len(next(iter(inputs.values()))))
        with intercepted(self.model, counting.around), counting:
            output = call(self.model, inputs)
        self.rates.update(counting.spikes())
        self.operations.update(counting.accumulates(), counting.samples)
        return output


class NativeOperations(Metric):
    """Accumulates of every product: one for every spike and every place that it goes to.

    Args:
        watch: What the network computes.
        input_changes: Whether the network is given another input at each step.
    """

    full_state_update = False
    total: Tensor
    samples: Tensor

    def __init__(self, watch: NativeWatch, input_changes: bool):
        super().__init__()
        self.watch, self.input_changes = watch, input_changes
        shape = len(watch.order), 2, watch.T
        self.add_state("total", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, accumulates: Tensor, samples: int) -> None:
        """Add a batch.

        Args:
            accumulates: Of every site, factor and step, summed over samples, ``[sites, 2, T]``.
            samples: Of the batch.
        """
        self.total += accumulates
        self.samples += samples

    def compute(self) -> Tensor:
        """Per sample, ``[sites, 2, T]``."""
        return self.total / self.samples

    def counts(self) -> OperationCounts:
        """The operations of every operator; the single steps of one layer are one operator."""
        T, found = self.watch.T, self.compute().cpu()
        products: dict[Any, ProductCount] = {}
        for index, site in enumerate(self.watch.order):
            macs = [float(site.product.macs) if site.step in (None, t) else 0.0 for t in range(T)]
            left, right = found[index].tolist()
            key = index if site.step is None else (site.product.module, site.product.op)
            if key in products:
                before = products[key]
                macs = _added(before.macs, macs)
                left, right = (_added(a, b) for a, b in zip(before.accumulates, (left, right)))
            alone = all(events is None or events.alone for events in site.events)
            dense = float(site.product.macs)
            products[key] = ProductCount(site.product, dense, macs, (left, right), alone)
        analog = [(d.module, d.op, float(d.elements), [float(d.elements)] * T) for d in self.watch.dense]
        membranes = {name: [float(n) for n in at] for name, at in self.watch.membranes.items()}
        return OperationCounts(
            T,
            int(self.samples),
            list(products.values()),
            analog,
            membranes,
            input_steps=T,
            input_changes=self.input_changes,
            instantaneous=True,
        )


class _Counting(TorchDispatchMode):
    """Counts in one forward what the sites of a watched network get.

    Args:
        watch: Of the same network.
        samples: Of the batch.
    """

    def __init__(self, watch: NativeWatch, samples: int):
        super().__init__()
        self.watch, self.samples = watch, samples
        self._spikes = NativeSpikes(watch.T, samples)
        self._sites = iter(watch.sites)
        self._calls: dict[str, int] = {}
        self._found: dict[int, Tensor] = {}

    def around(self, name: str, current: Tensor, fire: Callable[[], Tensor]) -> Tensor:
        """Run a neuron; see :func:`snn.neurons.native.intercepted`."""
        number = self._calls[name] = self._calls.get(name, -1) + 1
        site = self.watch.sums.get((name, number))
        if site is not None:
            self._count(site, (current,))
        return self._spikes.around(name, current, fire)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = func.overloadpacket.__name__
        if op in PRODUCTS:
            site = next(self._sites, None)
            if site is not None:
                if (site.product.op == "convolution") != (op == "convolution"):
                    raise ConversionError(
                        f"operations: {site.product.module} computes other products than before"
                    )
                self._count(site, tuple(args[i] for i in PRODUCTS[op]))
            return func(*args, **kwargs)
        with self:
            result = func.decompose(*args, **kwargs)
        return func(*args, **kwargs) if result is NotImplemented else result

    def _count(self, site: Site, factors: tuple[Tensor, ...]) -> None:
        at_t = torch.zeros(2, self.watch.T, dtype=torch.float64, device=factors[0].device)
        for factor, (tensor, events) in enumerate(zip(factors, site.events)):
            if events is not None:
                found = self._accumulates(site, tensor, events)
                if site.step is None:
                    at_t[factor] = found
                else:
                    at_t[factor, site.step] = found[0]
        self._found[id(site)] = at_t

    def _accumulates(self, site: Site, tensor: Tensor, events: Events) -> Tensor:
        """Of each step that the tensor runs over, summed over samples."""
        if site.product.op == "sum":  # one for each spike
            return tensor.reshape(site.steps, -1).sum(1, dtype=torch.float64) / events.unit
        if site.fan_out is not None:
            values = tensor.reshape(site.steps, -1, site.fan_out.numel()).sum(1).double()
            return values @ site.fan_out.flatten() / events.unit
        each = site.product.macs * site.steps * self.samples / tensor.numel()
        return tensor.reshape(site.steps, -1).sum(1, dtype=torch.float64) * each / events.unit

    def spikes(self) -> dict[str, LayerSpikes]:
        """Of every layer of neurons."""
        return self._spikes.layers()

    def accumulates(self) -> Tensor:
        """Of every site, ``[sites, 2, T]``."""
        return torch.stack([self._found[id(site)] for site in self.watch.order])


def _added(a: list[float], b: list[float]) -> list[float]:
    return [x + y for x, y in zip(a, b)]
