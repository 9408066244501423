"""How many layers of neurons lie one behind the other between a network's input and its read-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snn.conversion.call import call_model, first_sample
from snn.conversion.network import SpikingNetwork
from snn.functional.padding import valid_positions
from snn.neurons.base import Neuron
from snn.neurons.native import NativeNeuron
from snn.neurons.run import Run, running


def layers_in_sequence(network: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """The longest chain of layers of neurons, each fed by the one before.

    One forward of one sample and, for a converted network, one step is followed, operation by operation, so
    branches and shortcuts are what they are.

    Args:
        network: A converted network, or one that spikes by itself; left as it was found.
        inputs: Model inputs of some samples, on its device.

    Returns:
        0 if no neuron is called as a module.

    Example:
        >>> from snn.conversion.convert import convert
        >>> from snn.conversion.quantize import calibrate, quantize
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
        >>> batch = {"input": torch.randn(4, 2)}
        >>> quantised = calibrate(quantize(model, [{"type": "ReLU", "do": "replace"}]), [batch])
        >>> layers_in_sequence(convert(quantised, "para_inf", 4), batch)
        2
    """
    one = first_sample(inputs)
    depths = _Depths()
    neurons = [m for m in network.modules() if isinstance(m, Neuron | NativeNeuron)]
    handles = [neuron.register_forward_hook(depths.behind) for neuron in neurons]
    try:
        with torch.no_grad(), depths:
            if isinstance(network, SpikingNetwork):
                run = Run(1, network.coding, rows=torch.zeros(1, dtype=torch.long))
                run.start_chunk(range(1, 2))
                with running(run), valid_positions(one.get("attention_mask")):
                    logits = call_model(network.model, one)
            else:
                logits = call_model(network, one)
    finally:
        for handle in handles:
            handle.remove()
    return depths.of(logits)


class _Depths(TorchDispatchMode):
    """Keeps for each tensor how many layers of neurons lie behind it; views are what they look at.

    Storages are kept alive, because a freed address may be used again for something else.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[torch.UntypedStorage, int]] = {}

    def of(self, *values: Any) -> int:
        tensors = [t for t in tree_leaves(values) if isinstance(t, Tensor)]
        return max((self._known.get(t.untyped_storage()._cdata, (None, 0))[1] for t in tensors), default=0)

    def _mark(self, values: Any, depth: int) -> None:
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._known[storage._cdata] = storage, max(depth, self.of(tensor))

    def behind(self, _neuron: nn.Module, args: Any, output: Any) -> None:
        """Hook of the neurons."""
        self._mark(output, self.of(args) + 1)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        depth = self.of(args, kwargs)
        result = func(*args, **(kwargs or {}))
        self._mark(result, depth)
        return result
