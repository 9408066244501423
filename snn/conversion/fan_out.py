"""How many multiply-accumulates each spike of a network takes part in, product by product.

One forward of one sample is watched. Every value is followed back to the neurons that it consists of, so the
count holds for borders and strides of convolutions, for slices, averages, residual sums and copies alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from snn.conversion.call import call_model
from snn.conversion.network import SpikingNetwork
from snn.conversion.numbering import Numbering
from snn.conversion.products import Watch
from snn.conversion.surgery import place
from snn.conversion.trace import unfused
from snn.functional.padding import valid_positions
from snn.neurons.base import Neuron


@dataclass(frozen=True)
class FanOut:
    """What one layer's spikes do in one product.

    Args:
        layer: Whose spikes, as layers are called in a spiking run.
        factor: Which factor they are: 0 left, 1 right.
        macs: For each neuron of one sample, in the order of the layer's output, the multiply-accumulates that
            one spike of it takes part in, ``[n]``.
        shape: Of the layer's output, ``[1, ...]``.
        exact: Whether the neurons could be told apart; otherwise all have the mean.
        alone: Whether each value of the factor is one neuron's output, and so -1, 0 or 1 spikes.
        delay: How many steps later than it is fired a spike arrives.
    """

    layer: str
    factor: int
    macs: Tensor
    shape: torch.Size
    exact: bool
    alone: bool
    delay: int = 0


class FanOutWatch(Watch):
    """Follows every tensor of a spiking network through a forward, and the neurons that it consists of."""

    def __init__(self) -> None:
        super().__init__(samples=1)
        self.numbering = Numbering()
        #: For each of :attr:`products` what feeds it.
        self.fan_outs: list[list[FanOut]] = []
        #: For each of :attr:`products`, and of :attr:`dense`, the first step that takes it; None: computed once.
        self.starts: list[int | None] = []
        self.dense_starts: list[int | None] = []
        self._shapes: dict[str, torch.Size] = {}
        self._args: Any = ()

    def _hooks(self, name: str) -> tuple[Any, Any]:
        enter, leave_module = super()._hooks(name)

        def leave(module: nn.Module, args: Any, output: Any) -> Any:
            leave_module(module, args, output)
            if not isinstance(module, Neuron):
                return None
            spikes = output.clone()
            layer = place(name) + (f"#{self.calls[name]}" if self.calls[name] else "")
            self.calls[name] += 1
            self.start(spikes, layer)
            return spikes

        return enter, leave

    @property
    def step(self) -> int | None:
        """The step that is being computed; None: what is computed is no part of any."""
        return 0

    def start(self, spikes: Tensor, layer: str) -> None:
        """Follow what a layer of neurons has given, from here on."""
        self.operands.mark(spikes, "spikes", (layer,))
        self.numbering.start(spikes, layer)
        self._shapes[layer] = spikes.shape

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._args = args
        result = super().__torch_dispatch__(func, types, args, kwargs)
        op = func.overloadpacket.__name__
        output = next((t for t in tree_leaves(result) if isinstance(t, Tensor)), None)
        if output is None:
            return result
        if func._schema.is_mutable and op.endswith("_"):
            numbers = self.numbering.outcome(op.rstrip("_"), func, args, kwargs or {}, output.shape)
            self.numbering.put(output, numbers)
        elif not self.operands.is_view(output, args) and not self.numbering.of(output):
            numbers = self.numbering.outcome(op, func, args, kwargs or {}, output.shape)
            self.numbering.put(output, numbers)
        return result

    def _product(self, op: str, left: Tensor, right: Tensor, macs: int) -> None:
        before = len(self.products)
        super()._product(op, left, right, macs)
        if len(self.products) > before:
            self.starts.append(self.step)
            kinds = self.products[-1].left, self.products[-1].right
            self.fan_outs.append(
                [
                    fan_out
                    for factor, tensor in enumerate((left, right))
                    if kinds[factor] == "spikes"
                    for fan_out in self._fed_by(op, factor, tensor, macs)
                ]
            )

    def _dense(self, op: str, elements: int, outputs: Sequence[Tensor] = ()) -> None:
        super()._dense(op, elements, outputs)
        self.dense_starts.append(self.step)

    def _fed_by(self, op: str, factor: int, tensor: Tensor, macs: int) -> Iterator[FanOut]:
        each = taps(self._args) if op == "convolution" and factor == 0 else None
        known = self.numbering.of(tensor)
        gathered = sum(((x != 0).sum(0) for x in known.values()), torch.zeros(()))
        alone = bool((gathered <= 1).all())
        for layer in self.operands.sources(tensor):
            shape = self._shapes[layer]
            numbers = known.get(layer)
            if numbers is None:
                mean = torch.full((shape.numel(),), macs / shape.numel(), dtype=torch.float64)
                yield FanOut(layer, factor, mean, shape, False, False)
                continue
            fan = (
                torch.full_like(tensor, macs / tensor.numel(), dtype=torch.float64) if each is None else each
            )
            counted = torch.bincount(
                numbers.long().flatten(), fan.expand_as(numbers).flatten(), minlength=shape.numel() + 1
            )
            if not bool(counted[1:].any()):  # the layer fed another part of the same storage
                continue
            yield FanOut(layer, factor, counted[1:].cpu(), shape, True, alone)


def taps(args: Any) -> Tensor:
    """For each value that a convolution gets, how many multiply-accumulates it takes part in."""
    given, weight, _, *how = args
    given, weight = torch.zeros_like(given, dtype=torch.float64), torch.ones_like(weight, dtype=torch.float64)
    out = torch.ones_like(torch.ops.aten.convolution(given, weight, None, *how))
    only_input = [True, False, False]
    return torch.ops.aten.convolution_backward(out, given, weight, None, *how, only_input)[0]


def watch_fan_out(network: SpikingNetwork, sample: Mapping[str, Tensor]) -> FanOutWatch:
    """Watch one forward of one sample; the network is left as it was found.

    What neurons do plays no part, so they let everything pass meanwhile.

    Args:
        network: Any.
        sample: Model inputs of one row, on the network's device.
    """
    watch = FanOutWatch()
    for tensor in [*network.model.parameters(), *network.model.buffers()]:
        watch.operands.mark(tensor, "weight")
    for tensor in sample.values():
        watch.operands.mark(tensor, "input")
    mask = valid_positions(sample.get("attention_mask"))
    with torch.no_grad(), _passing(network), unfused(), watch.attached(network.model), mask, watch:
        call_model(network.model, sample)
    return watch


def _pass(aggregate: Tensor) -> Tensor:
    return aggregate


@contextmanager
def _passing(network: SpikingNetwork) -> Iterator[None]:
    neurons = list(network.neurons.values())
    before = [vars(neuron).get("forward") for neuron in neurons]
    for neuron in neurons:
        neuron.forward = _pass  # type: ignore[method-assign]
    try:
        yield
    finally:
        for neuron, forward in zip(neurons, before):
            del neuron.forward
            if forward is not None:
                neuron.forward = forward  # type: ignore[method-assign]
