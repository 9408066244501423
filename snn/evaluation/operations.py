"""How many operations a spiking network takes, as a torchmetrics metric: exact under any batching and padding.

What is kept are sums over samples, from which every count of every operator follows, so that conventions can be
chosen afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics import Metric

from snn.conversion.network import SpikingNetwork
from snn.conversion.products import Product
from snn.evaluation.wiring import AtLengths, Wire, Wiring
from snn.neurons.recorder import LayerSpikes
from snn.neurons.simulated import SimulatedNetwork


@dataclass(frozen=True)
class ProductCount:
    """One matrix product, per sample.

    Args:
        product: What it is.
        dense: Multiply-accumulates of one forward of a network without time.
        macs: Of each step that is computed, if it is computed densely, ``[T]``.
        accumulates: Of each step, one for every spike and every place that it goes to, ``[T]``, for the left and
            the right factor; zeros for a factor that is no spikes.
        alone: Whether each value is one neuron's output, and no sum of several.
        exact: Whether the neurons could be told apart.
    """

    product: Product
    dense: float
    macs: list[float]
    accumulates: tuple[list[float], list[float]]
    alone: bool = True
    exact: bool = True


@dataclass(frozen=True)
class OperationCounts:
    """Operations of a spiking network for one sample, on average.

    Args:
        T: Number of time steps.
        samples: Of how many samples this is the mean.
        products: Matrix products, in order of execution.
        analog: Non-linear work outside the neurons: module, what is computed, values of one forward, and values
            of each step, ``[T]``.
        membranes: Neurons by layer that are updated, at each step, ``[T]``.
        input_steps: Steps at which the network is given input.
        input_changes: Whether that input is another one at each step, as frames of events are.
        instantaneous: Whether signals are the spikes of each step, as in a network that spikes by itself, and not
            running aggregates of them.
    """

    T: int
    samples: int
    products: list[ProductCount]
    analog: list[tuple[str, str, float, list[float]]] = field(default_factory=list)
    membranes: dict[str, list[float]] = field(default_factory=dict)
    input_steps: int = 1
    input_changes: bool = False
    instantaneous: bool = False

    def accumulated(self, product: Product) -> bool:
        """Whether spikes alone decide which values a product adds up.

        Where signals are the spikes of each step, these may choose among analog values of the same step.
        """
        chosen = self.instantaneous and product.activations == {"spikes", "analog"}
        return product.spiking or chosen

    @property
    def approximate(self) -> list[str]:
        """Modules whose accumulates are known on average alone."""
        return list(dict.fromkeys(p.product.module for p in self.products if not p.exact))


class Operations(Metric):
    """Counts what feeds every product of a network.

    Args:
        network: The network that runs.
        wiring: Its wiring.
        layers: Names of its layers of neurons, as a run gives them.
    """

    full_state_update = False
    whole: Tensor
    active: Tensor
    membranes: Tensor
    fired: Tensor
    samples: Tensor

    def __init__(self, network: SpikingNetwork | SimulatedNetwork, wiring: Wiring, layers: Sequence[str]):
        super().__init__()
        self.wiring, self.layers, self.T = wiring, list(layers), network.T
        self.instantaneous, self.input_steps = isinstance(network, SimulatedNetwork), network.T
        if isinstance(network, SpikingNetwork) and network.coding == "sum":
            self.input_steps = network.spread
        self._feeds = list(dict.fromkeys(_feed(w) for o in wiring.operators for w in o.wires))
        kinds = max(1, len(wiring.lengths))
        shapes = {
            "whole": (kinds,),
            "active": (self.T, kinds),
            "fired": (len(self._feeds), self.T, kinds),
            "membranes": (len(self.layers), self.T),
            "samples": (),
        }
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, spikes: Mapping[str, LayerSpikes], settled: Tensor, inputs: Mapping[str, Tensor]
    ) -> None:
        """Add a batch.

        Args:
            spikes: What the network gave.
            settled: Step after which each sample changed no more, or at which it was stopped, ``[B]``; nothing is
                computed after it, and spikes after it do not count.
            inputs: Model inputs.
        """
        basis = self.wiring.basis(inputs)
        times = torch.arange(1, self.T + 1, device=settled.device)
        active = (times[:, None] <= settled).double()
        self.whole += basis.sum(0)
        self.active += active @ basis
        self.samples += len(basis)
        for index, (layer, selection, delay) in enumerate(self._feeds):
            found = spikes[layer]
            count = found.selected[selection - 1] if selection else found.total
            if delay:  # the last spikes of a sample go nowhere
                count = torch.cat([count.new_zeros(delay, count.shape[1]), count[:-delay]]) * active
            self.fired[index] += (count * active) @ basis
        for index, layer in enumerate(self.layers):
            self.membranes[index] += active @ spikes[layer].neurons

    def compute(self) -> dict[str, Tensor]:
        """Every sum, per sample."""
        sums = {name: getattr(self, name) for name in ("whole", "active", "fired", "membranes")}
        return {name: value / self.samples for name, value in sums.items()} | {"samples": self.samples}

    def counts(self) -> OperationCounts:
        """The operations of every operator."""
        found = {name: value.cpu() for name, value in self.compute().items()}
        whole = found["whole"].reshape(1, -1)
        active = found["active"].reshape(self.T, -1)
        fired = found["fired"].reshape(len(self._feeds), self.T, whole.shape[1])  # no feed at all, perhaps

        def computed(start: int | None) -> Tensor:
            """Samples at each step for which something is; what is computed once stands at the first step."""
            at_t = active.clone()
            at_t[: self.T if start is None else start] = 0
            if start is None:
                at_t[0] = whole
            return at_t

        products = []
        for operator in self.wiring.operators:
            by_factor = torch.zeros(2, self.T, dtype=torch.float64)
            for one in operator.wires:
                by_factor[one.factor] += fired[self._feeds.index(_feed(one))] @ _column(one.macs)
            by_factor[:, : operator.start] = 0
            left, right = by_factor.tolist()
            products.append(
                ProductCount(
                    operator.product,
                    float(whole @ _column(operator.macs)),
                    (computed(operator.start) @ _column(operator.macs)).tolist(),
                    (left, right),
                    operator.alone,
                    all(w.exact for w in operator.wires),
                )
            )
        analog = [
            (
                a.module,
                a.op,
                float(whole @ _column(a.values)),
                (computed(a.start) @ _column(a.values)).tolist(),
            )
            for a in self.wiring.analog
        ]
        membranes = found["membranes"].reshape(len(self.layers), self.T).tolist()
        by_layer = dict(zip(self.layers, membranes))
        return OperationCounts(
            self.T,
            int(found["samples"]),
            products,
            analog,
            by_layer,
            self.input_steps,
            instantaneous=self.instantaneous,
        )


def _feed(wire: Wire) -> tuple[str, int, int]:
    """Which spikes come in."""
    return wire.layer, wire.selection, wire.delay


def _column(at: AtLengths) -> Tensor:
    return torch.tensor(at, dtype=torch.float64)
