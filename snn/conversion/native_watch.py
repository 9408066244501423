"""What a network that spikes by itself computes, and which of its factors are spikes, counts of spikes, or analog.

Its signals are the spikes of each step, not aggregates. So more stays spikes than in a converted network: the largest
of several spikes and the product of two are spikes again, and a product of two matrices of spikes is counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, first_sample
from snn.conversion.fan_out import taps
from snn.conversion.operands import Kind, Operands, Sources
from snn.conversion.products import FUSED, PRODUCTS, Product, Watch
from snn.conversion.trace import Trace, unfused
from snn.errors import ConversionError
from snn.neurons.native import NativeNeuron, intercepted, present_step

#: Linear operations that leave every value as it is.
_SAME = {
    "clone",
    "_to_copy",
    "contiguous",
    "repeat",
    "repeat_interleave",
    "roll",
    "flip",
    "upsample_nearest2d",
}


@dataclass(frozen=True)
class Events:
    """How values of a tensor stand for spikes.

    Args:
        unit: What one spike is worth in a value.
        terms: Of how many neurons' outputs a value is the sum.
    """

    unit: float = 1.0
    terms: int = 1

    @property
    def alone(self) -> bool:
        """Whether each value is one neuron's output, and so a spike or none."""
        return self.terms == 1


#: Events of a result, from the result: how much a sum gathers is told by sizes.
_Result = Callable[[Tensor], Events]


class NativeOperands(Operands):
    """Kinds of tensors where signals are spikes of single steps; of those that are spikes also their unit."""

    def __init__(self) -> None:
        super().__init__()
        self._events: dict[int, Events] = {}
        self._result: _Result | None = None

    def events(self, value: Any) -> Events | None:
        """How a tensor stands for spikes; ``None``: it does not."""
        if self.kind(value) != "spikes":
            return None
        return self._events[value.untyped_storage()._cdata]

    def fired(self, spikes: Tensor, layer: str) -> None:
        """Note what a neuron has given."""
        self._result = lambda _: Events()
        self.mark(spikes, "spikes", (layer,))

    def mark(self, tensor: Tensor, kind: Kind, sources: Sources = ()) -> None:
        if kind == "spikes" and self._result is not None:
            self._events[tensor.untyped_storage()._cdata] = self._result(tensor)
        elif kind == "spikes":
            kind = "analog"
        super().mark(tensor, kind, sources)

    def outcome(self, op: str, args: Sequence[Any], floating: bool) -> tuple[Kind, bool]:
        kind, dense = super().outcome(op, args, floating)
        self._result = None
        known = [self.events(value) for value in args[:2]]
        if op in PRODUCTS:
            factors = {self.kind(args[i]) for i in PRODUCTS[op]}
            return ("counts", False) if factors <= {"spikes", "counts"} else (kind, dense)
        if op == "mul" and None not in known:
            left, right = (e for e in known if e is not None)
            if left.alone or right.alone:  # one lets the other pass or not
                self._result = lambda _: Events(left.unit * right.unit, max(left.terms, right.terms))
                return "spikes", False
        elif op.startswith("max_pool") and known[0] is not None and known[0].alone:
            self._result = lambda _: known[0] or Events()
            return "spikes", False
        if kind == "spikes":
            self._result = self._linear(op, args)
        return ("analog" if kind == "spikes" and self._result is None else kind), dense

    def _linear(self, op: str, args: Sequence[Any]) -> _Result | None:
        """Of a linear function of spikes; ``None`` where its values are no multiples of one unit."""
        parts = args[0] if isinstance(args[0], list | tuple) else args[:2]
        known = [found for found in map(self.events, parts) if found is not None]
        unit, terms = known[0].unit, sum(one.terms for one in known)
        if op in _SAME or (op == "constant_pad_nd" and not any(args[2:])):
            return lambda _: known[0]
        if op == "sum":
            return lambda out: Events(unit, terms * args[0].numel() // out.numel())
        if op == "mean":
            return lambda out: Events(
                unit * out.numel() / args[0].numel(), terms * args[0].numel() // out.numel()
            )
        if op in ("mul", "div"):
            number = next(value for value in args[:2] if self.events(value) is None)
            if isinstance(number, Tensor) and number.dim():
                return None
            factor = abs(float(number)) if op == "mul" else 1 / abs(float(number))
            return lambda _: Events(unit * factor, terms)
        if op in ("add", "cat", "stack", "copy") and len({one.unit for one in known}) == 1:
            most = terms if op == "add" else max(one.terms for one in known)
            return lambda _: Events(unit, most)
        return None


@dataclass(frozen=True)
class Site:
    """One place at which a forward computes a matrix product, or sums up spikes for a neuron.

    Args:
        product: What it is; work is per sample and step.
        events: Of each factor that is spikes.
        steps: Steps that one call computes: T, or 1.
        step: Which step it belongs to; ``None``: all of them, or any (the network's input does not change).
        fan_out: Of a convolution of spikes: how many multiply-accumulates each value of a row takes part in.
    """

    product: Product
    events: tuple[Events | None, Events | None]
    steps: int
    step: int | None = None
    fan_out: Tensor | None = None


class NativeWatch(Watch):
    """Follows every tensor of a network that spikes by itself through a forward of one sample.

    Args:
        T: Number of time steps.
    """

    operands: NativeOperands

    def __init__(self, T: int) -> None:
        super().__init__(samples=1)
        self.T, self.operands = T, NativeOperands()
        #: Matrix products in order of execution; ``None``: one of weights alone.
        self.sites: list[Site | None] = []
        #: Sums that go into a neuron, by its name and the number of the call.
        self.sums: dict[tuple[str, int], Site] = {}
        #: Both, in order of execution.
        self.order: list[Site] = []
        #: Neurons per sample that are updated at each step, by layer.
        self.membranes: dict[str, list[int]] = {}
        self._args: Any = ()

    def around(self, name: str, current: Tensor, fire: Callable[[], Tensor]) -> Tensor:
        """Run a neuron; see :func:`snn.neurons.native.intercepted`."""
        events, steps = self.operands.events(current), self._steps(current)
        if events is not None:
            macs = events.terms * current.numel() // steps
            sources = self.operands.sources(current) or None
            product = Product(name, "sum", "spikes", "constant", macs, (sources, None))
            site = Site(product, (events, None), steps, present_step())
            self.sums[name, self.calls[name]] = site
            self.order.append(site)
        self._inside_quantizer += 1
        spikes = fire().clone()  # a storage of its own, even if the neuron gives back its input
        self._inside_quantizer -= 1
        self.calls[name] += 1
        updated = self.membranes.setdefault(name, [0] * self.T)
        step = present_step()
        for t in range(self.T) if step is None else [step]:
            updated[t] += spikes.numel() // (self.T if step is None else 1)
        self.operands.fired(spikes, name)
        return spikes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._args = args
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _product(self, op: str, left: Tensor, right: Tensor, macs: int) -> None:
        if op.startswith(FUSED):
            raise ConversionError(f"{self._modules[-1]}: what happens inside of {FUSED} cannot be followed")
        before = len(self.products)
        super()._product(op, left, right, macs)
        if len(self.products) == before:
            self.sites.append(None)
            return
        steps = self._steps(left)
        product = replace(self.products[-1], macs=macs // steps)
        events = self.operands.events(left), self.operands.events(right)
        fan_out = None
        if op == "convolution" and events[0] is not None:
            fan_out = taps((left[:1], *self._args[1:]))[0]
        self.products[-1] = product
        site = Site(product, events, steps, present_step(), fan_out)
        self.sites.append(site)
        self.order.append(site)

    def _dense(self, op: str, elements: int, outputs: Sequence[Tensor] = ()) -> None:
        steps = self._steps(outputs[0]) if outputs else 1
        super()._dense(op, elements // steps, outputs)

    def _steps(self, tensor: Tensor) -> int:
        """Steps that a tensor runs over: all, or the one that is the same at, or belongs to, a single step."""
        rows = tensor.shape[0] if tensor.dim() else 1
        return 1 if present_step() is not None or rows % self.T else self.T

    def operators(self) -> list[Site]:
        """What is computed, in order of execution; the single steps of one layer are one operator."""
        first: dict[Any, Site] = {}
        for index, site in enumerate(self.order):
            first.setdefault(index if site.step is None else (site.product.module, site.product.op), site)
        return list(first.values())

    def trace(self) -> Trace:
        """What has been seen, as it is of a quantised network."""
        products = tuple(site.product for site in self.operators())
        return Trace(products, tuple(self.dense), dict(self.calls), self.inputs)


def is_native(model: nn.Module) -> bool:
    """Whether a network has neurons of its own that can be watched."""
    return any(isinstance(module, NativeNeuron) for module in model.modules())


def watch_native(model: nn.Module, inputs: Mapping[str, Tensor]) -> NativeWatch:
    """Watch one forward of one sample; the network is left as it was found.

    Args:
        model: In evaluation mode; it has a ``T``.
        inputs: Model inputs on its device, of which the first row is taken.

    Raises:
        ConversionError: A product whose factors cannot be seen.
    """
    T: Any = model.T
    watch = NativeWatch(T)
    row = first_sample(inputs)
    for tensor in [*model.parameters(), *model.buffers()]:
        watch.operands.mark(tensor, "weight")
    for tensor in row.values():
        watch.operands.mark(tensor, "input")
    with torch.no_grad(), unfused(), watch.attached(model), intercepted(model, watch.around), watch:
        call_model(model, row)
    return watch
