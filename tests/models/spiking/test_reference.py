"""Blocks of the published networks with their own weights: spikes exact, gradients and statistics close."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snn.models.qkformer import make_downsampling, make_stem
from snn.models.spiking.attention import SpikeDrivenAttention, SpikingSelfAttention, TokenAttention
from snn.models.spiking.block import membrane_mlp, mlp
from snn.models.spiking.embedding import MembraneEmbedding, PatchEmbedding
from snn.models.tim import TemporalInteraction
from snn.neurons.native import NeuronFactory, neuron_factory

pytestmark = pytest.mark.reference
FOLDER = Path(__file__).parents[4] / "shared" / "golden" / "spiking_transformers"


def arrays(name: str) -> dict[str, Tensor]:
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no reference arrays at {path}")
    with np.load(path) as file:
        return {key: torch.as_tensor(file[key]) for key in file.files if file[key].dtype.kind != "U"}


class Maps:
    """Signals as they are here, ``[T, B, D, H, W]``."""

    @staticmethod
    def read(x: Tensor) -> Tensor:
        return x

    @staticmethod
    def write(x: Tensor) -> Tensor:
        return x


class Tokens(Maps):
    """``[T, B, N, D]``."""

    @staticmethod
    def read(x: Tensor) -> Tensor:
        side = int(x.shape[2] ** 0.5)
        return x.transpose(2, 3).unflatten(3, (side, side))

    @staticmethod
    def write(x: Tensor) -> Tensor:
        return x.flatten(3).transpose(2, 3)


class MapsToTokens(Maps):
    write = Tokens.write


class Heads(Maps):
    """``[T, B, heads, N, d]``."""

    @staticmethod
    def read(x: Tensor) -> Tensor:
        return x.transpose(-1, -2)

    write = read


@dataclass
class Case:
    """A block: how it is built here, where its layers stand, how its signals are laid out there.

    ``places`` maps a published name without its kind of layer (``proj_conv1`` and ``proj_bn1`` are ``proj1``) to
    ours.
    """

    make: Callable[[NeuronFactory], nn.Module]
    places: dict[str, str]
    layout: type[Maps] = Maps
    shortcut: bool = False
    neuron: dict = field(default_factory=lambda: {"name": "lif"})

    def rename(self, key: str) -> str | None:
        parts = re.fullmatch(r"(?:m\.)?(\w+?)(?:_(conv|linear|bn)(\d?))?\.(\w+)", key)
        if parts is None:
            return None
        base, kind, number, parameter = parts.groups(default="")
        place = self.places.get(base + number)
        layer = {"": "", "bn": ".norm"}.get(kind, ".conv")
        return None if place is None else f"{place}{layer}.{parameter}"


QKV = {name[0]: f"{name}.layer" for name in ("query", "key", "value")}
STAGES = {f"proj{number or ''}": f"stages.{number}.layer" for number in range(4)}
CASES = {
    "spikformer_cifar_ssa": Case(
        lambda lif: SpikingSelfAttention(32, 4, lif, qkv_bias=True), {**QKV, "proj": "out.layer"}, Tokens
    ),
    "spikformer_cifar_mlp": Case(lambda lif: mlp(32, 4, lif), {"fc1": "0.layer", "fc2": "1.layer"}, Tokens),
    "spikformer_cifar_sps": Case(
        lambda lif: PatchEmbedding(3, 32, [2, 3], lif),
        {**STAGES, "rpe": "position.layer"},
        MapsToTokens,
    ),
    "sdt_sdsa": Case(lambda lif: SpikeDrivenAttention(32, 4, lif), {**QKV, "proj": "out"}, shortcut=True),
    "sdt_mlp": Case(lambda lif: membrane_mlp(32, 4, lif), {"fc1": "1", "fc2": "3"}, shortcut=True),
    "sdt_sps_0011": Case(
        lambda lif: MembraneEmbedding(3, 32, [2, 3], lif),
        {**STAGES, "proj3": "stages.3", "rpe": "position"},
    ),
    "qk_token_attn": Case(lambda lif: TokenAttention(32, 4, lif), {**QKV, "proj": "out.layer"}),
    "qk_ssa_fixed": Case(lambda lif: SpikingSelfAttention(32, 4, lif), {**QKV, "proj": "out.layer"}),
    "qk_patch_init_cifar": Case(
        lambda lif: make_stem("cifar", 3, 16, lif),
        {"proj_res": "1.shortcut.layer", "proj1": "1.main.layer", "proj": "0.layer"},
    ),
    "qk_patch_stage_cifar": Case(
        lambda lif: make_downsampling("cifar", 16, lif),
        {"proj_res": "shortcut.layer", "proj3": "main.0.layer", "proj4": "main.1.layer"},
    ),
    "tim_module_intended": Case(
        lambda lif: TemporalInteraction(16, 0.5, lif, in_threshold=0.3, out_threshold=0.5),
        {"interactor": "conv"},
        Heads,
        neuron={"name": "lif", "detach_membrane": True},
    ),
}


def load(case: Case, data: dict[str, Tensor]) -> nn.Module:
    block = case.make(neuron_factory(case.neuron))
    ours = block.state_dict()
    state = {}
    for key, value in data.items():
        name = case.rename(key.removeprefix("state/")) if key.startswith("state/") else None
        if name is not None:
            state[name] = value.reshape(ours[name].shape)
    block.load_state_dict(state)
    return block.double()


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got.double(), want.double().reshape(got.shape), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_evaluation(name: str) -> None:
    case, data = CASES[name], arrays(name)
    block = load(case, data).eval()
    x = case.layout.read(data["in/x"].double())
    out = block(x) + x if case.shortcut else block(x)
    torch.testing.assert_close(case.layout.write(out), data["eval/out"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_training(name: str) -> None:
    case, data = CASES[name], arrays(name)
    block = load(case, data).train()
    x = data["in/x"].double().requires_grad_()
    maps = case.layout.read(x)
    out = case.layout.write(block(maps) + maps if case.shortcut else block(maps))
    torch.testing.assert_close(out, data["train/out"], rtol=0, atol=1e-9)
    out.backward(data["train/cotangent"].double())
    assert x.grad is not None
    close(x.grad, data["train/grad_x"])
    gradients = {name: p.grad for name, p in block.named_parameters()}
    compared = 0
    for key, want in data.items():
        if key.startswith("train/grad/"):
            got = gradients[str(case.rename(key.removeprefix("train/grad/")))]
            assert got is not None
            close(got, want)
            compared += 1
    assert compared == len(gradients)
    state = block.state_dict()
    for key, want in data.items():
        if key.startswith("train/state_after/"):
            close(state[str(case.rename(key.removeprefix("train/state_after/")))], want)
