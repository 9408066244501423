"""The spikes of a few neurons for one sample, step by step: the picture that everybody knows from the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call, labels_removed
from snn.conversion.network import SpikingNetwork
from snn.conversion.surgery import place
from snn.evaluation.read_out import full_execution
from snn.neurons.native import intercepted, present_step
from snn.neurons.run import Event, Run


@torch.no_grad()
def raster(
    network: nn.Module, batch: Mapping[str, Tensor], layers: int = 6, neurons: int = 12
) -> dict[str, Any]:
    """Watch some neurons, spread evenly over the layers and over each of them, whether they fire or not.

    Args:
        network: A converted network, or one that spikes by itself; in evaluation mode.
        batch: The first sample is looked at.
        layers: Layers that are watched.
        neurons: Neurons that are watched in each.

    Returns:
        Plain types: ``T``, ``causal``, and ``layers``: ``name``, ``size`` (its number of neurons), ``neurons`` (which
        of them) and ``spikes``, for each of these -1, 0 or 1 at each step. No layers, if no neuron could be watched.
    """
    device = next((p.device for p in [*network.parameters(), *network.buffers()]), torch.device("cpu"))
    inputs = {k: v[:1].to(device) for k, v in labels_removed(batch).items()}
    watch = _Watch(neurons)
    if isinstance(network, SpikingNetwork):
        watch.converted(network, inputs)
    else:
        with intercepted(network, watch.around):
            call(network, inputs)
    T = int(getattr(network, "T", watch.steps))
    names = list(watch.chosen)
    some = torch.linspace(0, len(names) - 1, min(layers, len(names))).round().long().tolist()
    return {
        "T": T,
        "causal": bool(getattr(network, "causal", True)),
        "layers": [
            {
                "name": names[i],
                "size": watch.sizes[names[i]],
                "neurons": watch.chosen[names[i]].tolist(),
                "spikes": watch.over_time(names[i], T),
            }
            for i in some
        ],
    }


class _Watch:
    """Keeps what the chosen neurons do.

    Args:
        neurons: How many of each layer.
    """

    def __init__(self, neurons: int):
        self.neurons = neurons
        self.chosen: dict[str, Tensor] = {}
        self.sizes: dict[str, int] = {}
        #: By layer and step, counted from 0.
        self._spikes: dict[tuple[str, int], Tensor] = {}

    @property
    def steps(self) -> int:
        """Steps that were seen."""
        return 1 + max((t for _, t in self._spikes), default=-1)

    def converted(self, network: SpikingNetwork, inputs: Mapping[str, Tensor]) -> None:
        names: dict[nn.Module, str] = {neuron: place(name) for name, neuron in network.neurons.items()}

        def keep(run: Run, event: Event) -> None:
            name = names[event.neuron] + (f"#{event.call}" if event.call else "")
            counts = torch.cat([event.previous[None], event.counts])
            self._keep(name, counts.flatten(1).diff(dim=0), run.times.start - 1)

        network(execution=full_execution(network), record=False, observers=(keep,), **inputs)

    def around(self, name: str, current: Tensor, fire: Callable[[], Tensor]) -> Tensor:
        spikes, step = fire(), present_step()
        self._keep(name, spikes.flatten(1) if step is None else spikes.reshape(1, -1), step or 0)
        return spikes

    def _keep(self, name: str, spikes: Tensor, first: int) -> None:
        """Spikes ``[t, n]`` from a step on."""
        if name not in self.chosen:
            size = spikes.shape[1]
            self.sizes[name] = size
            self.chosen[name] = torch.linspace(0, size - 1, min(self.neurons, size)).round().long()
        for t, row in enumerate(spikes[:, self.chosen[name].to(spikes.device)], first):
            self._spikes[name, t] = row.sign().int().cpu()

    def over_time(self, name: str, T: int) -> list[list[int]]:
        """For each neuron its spikes at each step; none where the run was over."""
        none = torch.zeros(len(self.chosen[name]), dtype=torch.int32)
        return torch.stack([self._spikes.get((name, t), none) for t in range(T)]).T.tolist()
