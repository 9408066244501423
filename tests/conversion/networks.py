"""Small networks of many architectures, and the rules that quantise them: data, and one builder for all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import snn
from tests.models.small import SMALL, batch

Batch = dict[str, Tensor]
VOCABULARY, PAD = 40, 1
SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
WORDS = {"vocab_size": VOCABULARY, "attn_implementation": "eager"}


def t5() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(d_model=16, num_layers=2, num_heads=2, d_ff=24, d_kv=8, **WORDS))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2ForSequenceClassification

    special = {"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}
    return GPT2ForSequenceClassification(GPT2Config(n_embd=16, n_layer=2, n_head=2, **special, **WORDS))


def convnext() -> nn.Module:
    import timm

    return timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 16), num_classes=3)


def registered(name: str) -> Callable[[], nn.Module]:
    return lambda: snn.create_model(name, num_classes=3, **SMALL[name])


def append(match: str, **more: Any) -> dict[str, Any]:
    return {"match": match, "do": "append", "signed": True, **more}


def softmax(match: str) -> dict[str, Any]:
    return append(match, call="softmax", signed=False)


BERT_RULES = [
    append(r"re:.*LayerNorm"),
    append(r"re:.*\.(query|key|value)"),
    softmax(r"re:.*\.attention\.self"),
    append(r"re:.*\.attention\.self"),
    append(r"re:.*\.intermediate_act_fn"),
]
RELU_RULES = [{"type": "ReLU", "do": "replace", "signed": False}]
T5_RULES = [
    append(r"re:.*layer_norm"),
    append(r"re:.*\.[qkvo]"),
    softmax(r"re:.*\.SelfAttention"),
    {"match": r"re:.*\.act", "do": "replace", "signed": False},
]
TEXTS = ("t5", "gpt2")
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[dict[str, Any]]]] = {
    "bert": (registered("bert"), [*BERT_RULES, append("bert.pooler.activation")]),
    **{
        name: (registered(name), RELU_RULES) for name in ("resnet18", "resnet20", "resnet34", "timm", "vgg16")
    },
    "roberta": (registered("roberta"), [*BERT_RULES, append("classifier.dense")]),
    "distilbert": (
        registered("distilbert"),
        [
            append(r"re:.*layer_norm"),
            append(r"re:.*\.(q|k|v|out)_lin"),
            softmax(r"re:.*\.attention"),
            append(r"re:.*\.activation"),
        ],
    ),
    "t5": (t5, T5_RULES),
    "t5_encoder": (registered("t5_encoder"), T5_RULES),
    "gpt2": (
        gpt2,
        [
            append(r"re:.*\.ln_(1|2|f)"),
            append(r"re:.*\.c_attn"),
            softmax(r"re:.*\.attn"),
            append(r"re:.*\.act"),
        ],
    ),
    "vit": (
        registered("vit"),
        [
            append(r"re:.*layernorm.*"),
            append(r"re:.*\.[qkv]_proj"),
            softmax(r"re:.*\.attention"),
            append(r"re:.*\.activation_fn"),
        ],
    ),
    "convnext": (convnext, [{"type": "LayerNorm2d", "signed": True}, {"type": "GELU", "signed": True}]),
}


def example(name: str, model: nn.Module, rows: int = 3) -> Batch:
    """Random input; texts of different lengths, padded behind."""
    dtype = next(model.parameters()).dtype
    if name in SMALL:
        return batch(model, rows)
    if name not in TEXTS:
        return {"pixel_values": torch.randn(rows, 3, 32, 32, dtype=dtype)}
    mask = (torch.arange(7) < torch.arange(rows)[:, None] % 3 + 5).long()
    ids = torch.randint(5, VOCABULARY, (rows, 7))
    return {"input_ids": torch.where(mask.bool(), ids, PAD), "attention_mask": mask}


def enliven(model: nn.Module, inputs: Batch) -> None:
    """Weights so large that activations differ, norms that are not the identity, batch statistics of its own."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "embed" not in name:
                parameter.mul_(4 if parameter.dim() == 2 else 1.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()
        model(*inputs.values()) if "pixel_values" in inputs else model(**inputs)
    model.eval()


@functools.cache
def quantised(
    name: str, quantizer: str = "qcfs", levels: int = 8, dtype: torch.dtype = torch.float64
) -> tuple[nn.Module, Batch]:
    """A quantised, calibrated network in evaluation mode, and a batch for it. Not to be changed: it is built once."""
    torch.manual_seed(1)
    build, rules = NETWORKS[name]
    model = build().to(dtype)
    inputs = example(name, model)
    enliven(model, inputs)
    network = snn.quantize(model, rules, name=quantizer, levels=levels)
    snn.calibrate(network, [inputs])
    return network.requires_grad_(False), inputs
