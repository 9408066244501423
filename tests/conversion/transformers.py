"""Small transformers of many architectures, for one list of rules, and batches for them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

import snn
from snn.launch import CONF

from .networks import enliven

Batch = dict[str, Tensor]
PAD, WORDS = 1, 40
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SPECIAL = {"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}


def preset(name: str) -> list[dict[str, Any]]:
    """The rules of ``conversion=name``."""
    section = OmegaConf.load(CONF / "conversion" / f"{name}.yaml")
    rules = OmegaConf.to_container(section)["quantization"]["rules"]  # type: ignore[index, call-overload]
    assert isinstance(rules, list)
    return rules


def of_transformers(kind: str, task: str, **arguments: Any) -> Callable[[str], nn.Module]:
    """Builds ``{kind}For{task}`` with its own config class and the asked for attention."""

    def build(attention: str) -> nn.Module:
        import transformers

        config = getattr(transformers, f"{kind}Config")(**arguments, attn_implementation=attention)
        return getattr(transformers, f"{kind}{task}")(config)

    return build


def text(kind: str, task: str = "ForSequenceClassification", **arguments: Any) -> Callable[[str], nn.Module]:
    return of_transformers(kind, task, vocab_size=WORDS, **arguments)


def pictures(kind: str, **arguments: Any) -> Callable[[str], nn.Module]:
    return of_transformers(kind, "ForImageClassification", **arguments)


def of_timm(name: str, **arguments: Any) -> Callable[[str], nn.Module]:
    def build(attention: str) -> nn.Module:
        import timm

        model = timm.create_model(name, num_classes=3, **arguments)
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = attention == "sdpa"
        return model

    return build


T5 = {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 48, "d_kv": 16}
SWIN = {"image_size": 8, "patch_size": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2]}
TEXTS: dict[str, Callable[[str], nn.Module]] = {
    "bert": text("Bert", **SIZE),
    "roberta": text("Roberta", **SIZE, max_position_embeddings=20, pad_token_id=PAD),
    "distilbert": text("DistilBert", dim=32, n_layers=2, n_heads=2, hidden_dim=48),
    "t5": text("T5", "EncoderModel", **T5),
    "t5 gated": text("T5", "EncoderModel", **T5, feed_forward_proj="gated-gelu"),
    "gpt2": text("GPT2", n_embd=32, n_layer=2, n_head=2, **SPECIAL),
    "llama": text("Llama", "ForCausalLM", num_key_value_heads=1, **SIZE, **SPECIAL),
    "qwen2": text("Qwen2", "ForCausalLM", num_key_value_heads=1, **SIZE, **SPECIAL),
    # One layer that runs twice: two trajectories in each of its neurons.
    "albert": text("Albert", embedding_size=16, **SIZE, pad_token_id=PAD),
}
PICTURES: dict[str, Callable[[str], nn.Module]] = {
    "vit": pictures("ViT", **SIZE, image_size=8, patch_size=4),
    "swin": pictures("Swin", **SWIN, window_size=2),
    "timm vit": of_timm("vit_tiny_patch16_224", img_size=8, patch_size=4, embed_dim=32, depth=2, num_heads=2),
    "timm swin": of_timm(
        "swin_tiny_patch4_window7_224",
        **{"img_size": 8, "patch_size": 2, "window_size": 2, "embed_dim": 8},
        **{"depths": (2, 1), "num_heads": (1, 2)},
    ),
}
TRANSFORMERS = {**TEXTS, **PICTURES}


def example(name: str, dtype: torch.dtype = torch.float64, rows: int = 3) -> Batch:
    """Random input; texts of different lengths, padded behind, so that causal ones see padding as well."""
    if name in PICTURES:
        return {"pixel_values": torch.randn(rows, 3, 8, 8, dtype=dtype)}
    mask = (torch.arange(7) < torch.arange(rows)[:, None] % 3 + 5).long()
    return {
        "input_ids": torch.where(mask.bool(), torch.randint(5, WORDS, (rows, 7)), PAD),
        "attention_mask": mask,
    }


def lively(
    name: str, attention: str = "eager", dtype: torch.dtype = torch.float64
) -> tuple[nn.Module, Batch]:
    """A float network in evaluation mode with weights that make a difference, and a batch."""
    torch.manual_seed(1)
    model = TRANSFORMERS[name](attention).to(dtype)
    inputs = example(name, dtype)
    enliven(model, inputs)
    return model, inputs


@functools.cache
def quantised(
    name: str,
    rules: str = "spikezip",
    quantizer: str = "lsq",
    levels: int = 8,
    attention: str = "eager",
    dtype: torch.dtype = torch.float64,
) -> tuple[nn.Module, Batch]:
    """A quantised, calibrated network, and a batch for it. Not to be changed: it is built once."""
    model, inputs = lively(name, attention, dtype)
    network = snn.quantize(model, preset(rules), name=quantizer, levels=levels, example=inputs)
    snn.calibrate(network, [inputs])
    return network.requires_grad_(False), inputs
