"""Files with the names of the authors' networks: they load as they are, strictly, and mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from snn.errors import CheckpointError
from snn.models import create_model
from tests.models.spiking.test_reference import arrays

SIZES: dict[str, dict[str, Any]] = {
    "spikformer": {"embed_dim": 32, "depth": 1, "num_heads": 4},
    "sdt": {"embed_dim": 32, "depth": 1, "num_heads": 4},
    "qkformer": {"embed_dim": 32, "depths": [1, 1], "num_heads": 4},
    "tim": {"embed_dim": 32, "depth": 1, "num_heads": 4, "image_size": 64},
}


def block(name: str, prefix: str) -> dict[str, Tensor]:
    """The weights of a published block, below the name that it has in its network."""
    found = {k.removeprefix("state/"): v for k, v in arrays(name).items() if k.startswith("state/")}
    return {prefix + key.removeprefix("m."): value for key, value in found.items()}


def head(classes: int, width: int = 32) -> dict[str, Tensor]:
    return {"head.weight": torch.randn(classes, width), "head.bias": torch.randn(classes)}


def narrow(tensors: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    return {k: v[tuple(slice(width) for _ in v.shape[:2])] if v.dim() else v for k, v in tensors.items()}


def spikformer() -> dict[str, Tensor]:
    dead = {f"block.0.norm{i}.{p}": torch.ones(32) for i in (1, 2) for p in ("weight", "bias")}
    return {
        **block("spikformer_cifar_sps", "patch_embed."),
        **block("spikformer_cifar_ssa", "block.0.attn."),
        **block("spikformer_cifar_mlp", "block.0.mlp."),
        **head(7),
        **dead,
    }


def sdt() -> dict[str, Tensor]:
    return {
        **block("sdt_sps_0011", "patch_embed."),
        **block("sdt_sdsa", "block.0.attn."),
        **block("sdt_mlp", "block.0.mlp."),
        **head(7),
    }


def qkformer() -> dict[str, Tensor]:
    mlps: dict[str, Tensor] = {}
    for stage, width in ((1, 16), (2, 32)):
        for layer, (out, into) in (("mlp1", (4 * width, width)), ("mlp2", (width, 4 * width))):
            name = f"stage{stage}.0.mlp.{layer}"
            mlps[f"{name}_conv.weight"] = torch.randn(out, into, 1, 1)
            mlps[f"{name}_conv.bias"] = torch.randn(out)
            for part in ("weight", "bias", "running_mean", "running_var"):
                mlps[f"{name}_bn.{part}"] = torch.rand(out)
            mlps[f"{name}_bn.num_batches_tracked"] = torch.tensor(1)
    return {
        **block("qk_patch_init_cifar", "patch_embed1."),
        **narrow(block("qk_token_attn", "stage1.0.tssa."), 16),
        **block("qk_patch_stage_cifar", "patch_embed2."),
        **block("qk_ssa_fixed", "stage2.0.attn."),
        **mlps,
        **head(7),
    }


def tim() -> dict[str, Tensor]:
    """A Spikformer for events, whose layers of tokens are one-dimensional convolutions without a bias for q, k, v."""
    taken = spikformer()
    tensors = {}
    for key, value in taken.items():
        if key.startswith(("block.0.attn.q_linear.b", "block.0.attn.k_linear.b", "block.0.attn.v_linear.b")):
            continue
        if key == "block.0.attn.proj_linear.bias":
            continue
        new = key.replace("_linear", "_conv")
        tensors[new] = value[..., None] if new.endswith("_conv.weight") and value.dim() == 2 else value
    tensors["patch_embed.proj_conv.weight"] = tensors["patch_embed.proj_conv.weight"][:, :2].clone()
    return {**tensors, **block("tim_module_intended", "block.0.attn.TIM.")}


FILES = {"spikformer": spikformer, "sdt": sdt, "qkformer": qkformer, "tim": tim}
pytestmark = pytest.mark.reference


def loaded(name: str, path: Path, tensors: dict[str, Tensor]) -> nn.Module:
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return create_model(name, num_classes=7, weights=path, **SIZES[name])


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_every_tensor_finds_its_place(name: str, wrapped: bool, tmp_path: Path) -> None:
    tensors = FILES[name]()
    file = {f"module.{k}": v for k, v in tensors.items()} if wrapped else tensors
    model = loaded(name, tmp_path / "weights.safetensors", file)
    state = model.state_dict()
    assert torch.equal(state["classifier.weight"], tensors["head.weight"])
    dead = ("norm", "talking_heads", "lif.")
    used = {k: v for k, v in tensors.items() if not any(word in k for word in dead)}
    assert len(state) == len(used)
    assert sum(v.numel() for v in state.values()) == sum(v.numel() for v in used.values())


@pytest.mark.parametrize(
    ("name", "golden", "part"),
    [
        ("spikformer", "spikformer_cifar_sps", "embedding"),
        ("spikformer", "spikformer_cifar_ssa", "blocks.0.attention"),
        ("spikformer", "spikformer_cifar_mlp", "blocks.0.mlp"),
        ("sdt", "sdt_sps_0011", "embedding"),
        ("sdt", "sdt_sdsa", "blocks.0.attention"),
        ("sdt", "sdt_mlp", "blocks.0.mlp"),
        ("qkformer", "qk_patch_init_cifar", "embedding"),
        ("qkformer", "qk_patch_stage_cifar", "blocks.1"),
        ("qkformer", "qk_ssa_fixed", "blocks.2.0.attention"),
        ("tim", "tim_module_intended", "blocks.0.attention.on_query"),
    ],
)
def test_a_loaded_part_computes_what_the_published_one_does(
    name: str, golden: str, part: str, tmp_path: Path
) -> None:
    from tests.models.spiking.test_reference import CASES

    case, data = CASES[golden], arrays(golden)
    model = loaded(name, tmp_path / "weights.safetensors", FILES[name]()).double().eval()
    x = case.layout.read(data["in/x"].double())
    with torch.no_grad():
        out = model.get_submodule(part)(x)
    out = case.layout.write(out + x if case.shortcut else out)
    torch.testing.assert_close(out, data["eval/out"], rtol=0, atol=1e-6)


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    file = {k: v for k, v in spikformer().items() if "fc2" not in k}
    with pytest.raises(CheckpointError, match=r"missing: blocks.0.mlp.1"):
        loaded("spikformer", tmp_path / "weights.safetensors", file)
    wide = {**spikformer(), "block.0.attn.q_linear.weight": torch.randn(64, 32)}
    with pytest.raises(
        CheckpointError, match=r"of another shape: blocks.0.attention.query.layer.conv.weight"
    ):
        loaded("spikformer", tmp_path / "weights.safetensors", wide)
    more = {**spikformer(), "block.1.attn.q_linear.weight": torch.randn(32, 32)}
    with pytest.raises(CheckpointError, match=r"unexpected: blocks.1.attention.query"):
        loaded("spikformer", tmp_path / "weights.safetensors", more)
