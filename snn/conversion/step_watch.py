"""What a network that simulates its neurons itself computes: once for each sample, and in each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from snn.conversion.call import call_model
from snn.conversion.fan_out import FanOut, FanOutWatch
from snn.conversion.operands import Sources
from snn.conversion.products import Product
from snn.conversion.trace import unfused
from snn.errors import ConversionError
from snn.neurons.native import intercepted, present_step
from snn.neurons.simulated import SimulatedNetwork


class StepWatch(FanOutWatch):
    """Follows every tensor through two steps, of which the second is what each step is like.

    What only the second one computes comes from the step before, as a feedback does; and spikes of the first one that
    the second multiplies arrive a step late.
    """

    def __init__(self) -> None:
        super().__init__()
        #: What a layer's spikes are called in here: layer and step.
        self._fired: dict[str, tuple[str, int]] = {}
        #: Neurons per sample, by layer.
        self.neurons: dict[str, int] = {}

    @property
    def step(self) -> int | None:
        return present_step()

    def around(self, name: str, current: Tensor, fire: Callable[[], Tensor]) -> Tensor:
        """Run a layer for one step; see :func:`snn.neurons.native.intercepted`."""
        self._inside_quantizer += 1
        spikes = fire().clone()
        self._inside_quantizer -= 1
        step = self.step
        assert step is not None
        key = f"{name} at {step}"
        self._fired[key], self.neurons[name] = (name, step), spikes.numel()
        self.start(spikes, key)
        return spikes

    def settle(self) -> None:
        """Keep of both steps what one takes, and say at which step it begins.

        Raises:
            ConversionError: The first step computes something that the second does not.
        """
        each = _beginnings([(p.module, p.op) for p in self.products], self.starts)
        found = [
            (self._product_of(p, s), [self._delayed(f) for f in fan_outs if s is not None])
            for p, fan_outs, s in zip(self.products, self.fan_outs, self.starts)
        ]
        self.products = [found[index][0] for index, _ in each]
        self.fan_outs = [found[index][1] for index, _ in each]
        self.starts = [start for _, start in each]
        each = _beginnings([(d.module, d.op) for d in self.dense], self.dense_starts)
        self.dense = [self.dense[index] for index, _ in each]
        self.dense_starts = [start for _, start in each]

    def _product_of(self, product: Product, step: int | None) -> Product:
        def layers(sources: Sources | None) -> Sources | None:
            return sources and tuple(dict.fromkeys(self._fired[key][0] for key in sources))

        left, right = (layers(sources) for sources in product.sources)
        named = replace(product, sources=(left, right))
        if step is not None:
            return named
        # Sums of a whole run's spikes are numbers like any others.
        kinds = ["analog" if kind == "spikes" else kind for kind in (product.left, product.right)]
        return replace(named, left=kinds[0], right=kinds[1], sources=(None, None))

    def _delayed(self, fan_out: FanOut) -> FanOut:
        layer, step = self._fired[fan_out.layer]
        return replace(fan_out, layer=layer, delay=1 - step)


def _beginnings(work: list[tuple[str, str]], steps: list[int | None]) -> list[tuple[int, int | None]]:
    """Place and first step of what each step takes, and of what is computed once (None)."""
    first = Counter(one for one, step in zip(work, steps) if step == 0)
    found: list[tuple[int, int | None]] = []
    for index, (one, step) in enumerate(zip(work, steps)):
        if step is None:
            found.append((index, None))
        elif step == 1:
            found.append((index, 0 if first[one] else 1))
            first[one] -= bool(first[one])
    if first.total():
        raise ConversionError(
            f"operations: {next(iter(+first))[0]} computes something in the first step that later ones do not"
        )
    return found


def watch_steps(network: SimulatedNetwork, sample: Mapping[str, Tensor]) -> StepWatch:
    """Watch one forward of one sample over two steps; the network is left as it was found.

    Args:
        network: Any, in evaluation mode.
        sample: Model inputs of one row, on the network's device.

    Raises:
        ConversionError: The first step computes something that the second does not.
    """
    watch = StepWatch()
    for tensor in [*network.parameters(), *network.buffers()]:
        watch.operands.mark(tensor, "weight")
    for tensor in sample.values():
        watch.operands.mark(tensor, "input")
    before = network.T, network.chunk
    network.T, network.chunk = 2, 1
    try:
        with torch.no_grad(), unfused(), watch.attached(network), intercepted(network, watch.around), watch:
            call_model(network, sample)
    finally:
        network.T, network.chunk = before
    watch.settle()
    return watch
