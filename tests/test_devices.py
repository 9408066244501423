"""What is made without a device lies on the CPU, and cannot meet data on a GPU; found here without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

import snn
from snn.conversion.training_free.balance import balance
from snn.conversion.training_free.correct import correct
from snn.conversion.training_free.offsets import KINDS as OFFSETS
from snn.conversion.training_free.offsets import set_offsets
from snn.models.registry import create_model
from snn.quantizers.registry import INITS
from snn.training.diagnostics import diagnose
from snn.training.through_time import ThroughTime
from tests.conversion.test_training_free import pictures, ready, resnet
from tests.conversion.transformers import quantised
from tests.models.small import SMALL, batch

KINDS = {"para_inf": "qcfs", "integrate_fire": "qcfs", "st_bif": "lsq", "para_inf_channelwise": "da_qcfs"}
MAKE = {
    getattr(torch, name)
    for name in ["arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros"]
}
#: They take what lies elsewhere.
MOVE = {"to", "copy_"}
INDEX = {"__getitem__", "__setitem__", "__get__", "__set__"}


class Homes(TorchFunctionMode):
    """Raises where a tensor that was made without a device, and was not moved, meets the data."""

    def __init__(self) -> None:
        super().__init__()
        self.homeless = WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        strange = [tensor for tensor in given if tensor in self.homeless]
        meets = any(t.dim() for t in strange) and any(t.dim() and t not in self.homeless for t in given)
        if meets and name not in MOVE | INDEX:
            raise AssertionError(f"{name} of data and of a tensor that was made without a device")
        result = func(*args, **kwargs)
        if name == "cpu":
            result = result.clone()  # as it would be if it came from a GPU
            self.homeless[result] = True
            return result
        if name in MOVE:
            for tensor in strange:
                self.homeless.pop(tensor, None)
        made = func in MAKE and kwargs.get("device") is None and not given
        derived = strange and len(strange) == len(given) and name not in MOVE
        if made or derived:
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    self.homeless[leaf] = True
        return result


def test_that_it_is_found() -> None:
    x = torch.ones(3)
    with Homes():
        _ = x + torch.ones(3, device=x.device)
        _ = x + torch.ones(3).to(x.device)
        _ = x * torch.tensor(2.0)
        with pytest.raises(AssertionError, match="add of data"):
            _ = torch.add(x, torch.linspace(0, 1, 3))
        with pytest.raises(AssertionError, match="mul of data"):
            _ = torch.mul(torch.linspace(0, 1, 2)[:, None], x)


@pytest.mark.parametrize("init", INITS)
def test_thresholds(init: str) -> None:
    model, inputs = quantised("bert", "spikezip", "lsq", levels=8, dtype=torch.float32)
    with Homes():
        snn.calibrate(model, [inputs], init=init)


@pytest.mark.parametrize("neuron", KINDS)
@pytest.mark.parametrize("name", ["bert", "vit"])
def test_conversion_and_measurement(name: str, neuron: str) -> None:
    model, inputs = quantised(name, "spikezip", KINDS[neuron], levels=8, dtype=torch.float32)
    network = snn.convert(model, neuron, 8)
    rows = next(iter(inputs.values())).shape[0]
    labelled = {**inputs, "labels": torch.zeros(rows, dtype=torch.long)}
    through = ThroughTime(network)
    with Homes():
        snn.verify(model, network, [inputs])
        snn.attribute(model, network, [inputs])
        snn.evaluate(network, [labelled])
        diagnose(model, labelled)
        through(**inputs).square().sum().backward()


@pytest.mark.parametrize("order", ["layerwise", "online"])
def test_without_training(order: str) -> None:
    batches = pictures()
    model = ready(resnet(), batches)
    with Homes():
        correct(model, batches, order=order, weights=order == "layerwise")


@pytest.mark.parametrize("kind", [*OFFSETS, "balance"])
def test_charges_and_balance(kind: str) -> None:
    batches = pictures()
    model = ready(resnet(), batches, name="qcfs")
    with Homes():
        if kind == "balance":
            balance(model, batches, 4)
        else:
            set_offsets(model, batches, 4, kind)


@pytest.mark.parametrize("name", ["spikformer", "sdt", "qkformer", "tim", "spikingbert"])
def test_networks_that_spike_by_themselves(name: str) -> None:
    model = create_model(name, num_classes=3, **SMALL[name])
    labelled = {**batch(model), "labels": torch.zeros(3, dtype=torch.long)}
    with Homes():
        snn.evaluate(model, [labelled])
