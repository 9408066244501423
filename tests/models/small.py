"""Every registered model at a small size; a new model adds one line to ``SMALL``."""

from __future__ import annotations

from typing import Any

import torch

from snn.models import create_model
from snn.models.spikingbert.model import SpikingBert

_TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}
_VIT = {
    "name": "vit_tiny_patch16_224",
    "image_size": 32,
    "options": {"embed_dim": 16, "depth": 1, "num_heads": 2},
}
SMALL: dict[str, dict[str, Any]] = {
    "bert": {**_TEXT, "max_position_embeddings": 12},
    "distilbert": {**_TEXT, "max_position_embeddings": 12},
    "roberta": {**_TEXT, "max_position_embeddings": 13, "pad_token_id": 0},
    "t5_encoder": {**_TEXT, "head_size": 4},
    "resnet20": {"widths": [4, 8, 8], "blocks": [1, 2, 1]},
    "qkformer": {
        "T": 2,
        "embed_dim": 32,
        "depths": [1, 1],
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "stem": "cifar",
    },
    "sdt": {"T": 2, "embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0},
    "spikformer": {"T": 2, "embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0},
    "spikingbert": {**_TEXT, "max_position_embeddings": 12, "T": 3},
    "tim": {"T": 3, "embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0, "image_size": 32},
    "resnet18": {"widths": [4, 8, 8], "blocks": [1, 1, 1]},
    "resnet34": {"widths": [4, 8], "blocks": [1, 2], "stem": "imagenet"},
    "timm": {"name": "test_resnet"},
    "vit": {
        "image_size": 32,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    },
    "vgg16": {"widths": [4, 4, 6, 6, 8], "hidden_size": 12},
}
#: By config, where a model's configs differ in shape.
SMALL_CONFIGS: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {"name": "tf_efficientnet_lite0"},
    **dict.fromkeys(("vit_tiny", "vit_small", "vit_base", "vit_large", "vit_micro"), _VIT),
}


def batch(model: torch.nn.Module, rows: int = 3) -> dict[str, torch.Tensor]:
    """Random input for a small model; texts of different lengths, padded."""
    dtype = next(model.parameters()).dtype
    if model.input_kind == "image":
        return {"pixel_values": torch.randn(rows, model.spec["args"]["in_channels"], 32, 32, dtype=dtype)}
    lengths = torch.arange(rows) % 4 + 5
    mask = (torch.arange(8) < lengths[:, None]).long()
    ids = torch.randint(1, model.spec["args"]["vocab_size"], (rows, 8)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def lively_spikingbert(**more: Any) -> SpikingBert:
    """A small one in float64, with weights so large that rates differ."""
    model = create_model("spikingbert", num_classes=3, **{**SMALL["spikingbert"], **more}).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.mul_(15 if "feedback" not in name else 5)
    model.eval()
    assert isinstance(model, SpikingBert)
    return model


def logits(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """``[B, num_classes]``; of a network that spikes by itself the mean over its steps."""
    with torch.no_grad():
        out = model(**inputs)
    out = getattr(out, "logits", out)
    return out.mean(0) if out.dim() == 3 else out
