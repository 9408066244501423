"""ViT of transformers: the same network as timm's, in other words, with query, key and value apart."""

from __future__ import annotations

from typing import Any

from torch import nn

from snn.errors import ConfigError, did_you_mean
from snn.models.architecture import Architecture
from snn.models.arguments import require, require_positive
from snn.models.pictures import PictureCheck


def build(
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 224,
    patch_size: int = 16,
    hidden_size: int = 192,
    num_hidden_layers: int = 12,
    num_attention_heads: int = 3,
    intermediate_size: int = 768,
    hidden_act: str = "gelu",
    layer_norm_eps: float = 1e-6,
    hidden_dropout_prob: float = 0.0,
    attention_probs_dropout_prob: float = 0.0,
) -> nn.Module:
    """Build ViT with a classifier on its class token, with random weights.

    Attention is the eager one: its softmax is a visible call, so a rule can put a quantiser behind it.

    Args:
        num_classes: Width of the classifier.
        in_channels: Channels of a picture: 3 for colour, 1 for grey.
        image_size: Height and width in pixels.
        patch_size: Of one token, in pixels; divides ``image_size``.
        hidden_size: Width of the residual stream.
        num_hidden_layers: Number of layers.
        num_attention_heads: Heads per layer; divides ``hidden_size``.
        intermediate_size: Width of the feed-forward part.
        hidden_act: Activation of the feed-forward part.
        layer_norm_eps: Added to the variance in the norms.
        hidden_dropout_prob: Dropout after embeddings and sublayers, in [0, 1).
        attention_probs_dropout_prob: Dropout of attention probabilities, in [0, 1).

    Shape:
        ``pixel_values`` ``[B, in_channels, image_size, image_size]`` to ``.logits`` ``[B, num_classes]``.

    Raises:
        ConfigError: A size that cannot work.

    Reference:
        Dosovitskiy et al., ICLR 2021; the defaults are DeiT-tiny's (Touvron et al., ICML 2021).
    """
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.activations import ACT2FN

    counts = {
        "in_channels": in_channels,
        "image_size": image_size,
        "patch_size": patch_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": intermediate_size,
    }
    for key, value in counts.items():
        require(value >= 1, key, value, "a whole number >= 1")
    require_positive(layer_norm_eps=layer_norm_eps)
    for key, share in (
        ("hidden_dropout_prob", hidden_dropout_prob),
        ("attention_probs_dropout_prob", attention_probs_dropout_prob),
    ):
        require(0 <= share < 1, key, share, "a probability in [0, 1)")
    require(image_size % patch_size == 0, "patch_size", patch_size, f"a divisor of image_size={image_size}")
    require(
        hidden_size % num_attention_heads == 0,
        "num_attention_heads",
        num_attention_heads,
        f"a divisor of hidden_size={hidden_size}",
    )
    if hidden_act not in ACT2FN:
        raise ConfigError(
            f"model.args.hidden_act: unknown activation {hidden_act!r}; {did_you_mean(hidden_act, ACT2FN)}"
        )
    settings: dict[str, Any] = {
        **counts,
        "num_channels": counts["in_channels"],
        "hidden_act": hidden_act,
        "layer_norm_eps": layer_norm_eps,
        "hidden_dropout_prob": hidden_dropout_prob,
        "attention_probs_dropout_prob": attention_probs_dropout_prob,
        "num_labels": num_classes,
        "attn_implementation": "eager",
    }
    del settings["in_channels"]
    config = ViTConfig(**settings)
    model = ViTForImageClassification(config)
    model.register_forward_pre_hook(PictureCheck(in_channels, image_size), with_kwargs=True)
    return model


VIT = Architecture(build=build, input_kind="image", activation="hidden_act")
