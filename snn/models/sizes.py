"""Sizes of text encoders, under one name for all families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snn.errors import ConfigError, did_you_mean
from snn.models.arguments import require, require_positive


@dataclass(frozen=True)
class Sizes:
    """Sizes and options of every text encoder; a family has some of them. The defaults are MiniLM's.

    Args:
        vocab_size: Number of tokens.
        hidden_size: Width of the residual stream.
        num_hidden_layers: Number of encoder layers.
        num_attention_heads: Heads per layer; divides ``hidden_size`` where there is no ``head_size``.
        head_size: Width of one head.
        intermediate_size: Width of the feed-forward part.
        gated: Whether a second, linear branch multiplies the feed-forward activation.
        max_position_embeddings: Rows of the table of positions.
        relative_attention_num_buckets: Distances between tokens that are told apart.
        relative_attention_max_distance: Distance from which on all are one, in tokens.
        type_vocab_size: Number of segments; 2 for pairs of texts.
        hidden_act: Activation of the feed-forward part; ``gelu`` is the exact one, with erf.
        layer_norm_eps: Added to the variance in the norms.
        hidden_dropout_prob: Dropout after embeddings and sublayers, in [0, 1).
        attention_probs_dropout_prob: Dropout of attention probabilities, in [0, 1).
        classifier_dropout: Dropout before the classifier, in [0, 1); None for ``hidden_dropout_prob``.
        pad_token_id: Row of the embedding that gets no gradient; RoBERTa counts positions from it.
    """

    vocab_size: int = 30522
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    head_size: int = 32
    intermediate_size: int = 1536
    gated: bool = False
    max_position_embeddings: int = 512
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    pad_token_id: int = 0


def check_sizes(sizes: Mapping[str, Any]) -> None:
    """Refuse sizes that cannot work.

    Raises:
        ConfigError: Names the argument and what would work.
    """
    from transformers.activations import ACT2FN

    for key, value in sizes.items():
        if key.endswith(("_size", "_layers", "_heads", "_embeddings", "_buckets", "_distance")):
            require(value >= 1, key, value, "a whole number >= 1")
        elif "dropout" in key:
            require(value is None or 0 <= value < 1, key, value, "a probability in [0, 1)")
    eps, pad, words = sizes.get("layer_norm_eps", 1.0), sizes["pad_token_id"], sizes["vocab_size"]
    require_positive(layer_norm_eps=eps)
    require(0 <= pad < words, "pad_token_id", pad, f"a token below vocab_size={words}")
    width, heads, activation = sizes["hidden_size"], sizes["num_attention_heads"], sizes["hidden_act"]
    if "head_size" not in sizes and width % heads:
        divisors = ", ".join(str(number) for number in range(1, 17) if width % number == 0)
        raise ConfigError(
            f"model.args.num_attention_heads: {heads} heads do not divide "
            f"model.args.hidden_size={width}; these do: {divisors}"
        )
    if activation not in ACT2FN:
        raise ConfigError(
            f"model.args.hidden_act: unknown activation {activation!r}; {did_you_mean(activation, ACT2FN)}"
        )
