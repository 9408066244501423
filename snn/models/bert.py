"""BERT for the classification of texts and pairs of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from snn.errors import CheckpointError, ConfigError, did_you_mean
from snn.models.architecture import Architecture
from snn.models.arguments import require
from snn.registry import accepted


def build_bert(
    num_classes: int,
    vocab_size: int = 30522,
    hidden_size: int = 384,
    num_hidden_layers: int = 6,
    num_attention_heads: int = 12,
    intermediate_size: int = 1536,
    max_position_embeddings: int = 512,
    type_vocab_size: int = 2,
    hidden_act: str = "gelu",
    layer_norm_eps: float = 1e-12,
    hidden_dropout_prob: float = 0.1,
    attention_probs_dropout_prob: float = 0.1,
    classifier_dropout: float | None = None,
    pad_token_id: int = 0,
) -> nn.Module:
    """Build a BERT encoder with pooler and classifier; the default sizes are MiniLM's.

    Attention is the eager one: its softmax is a visible call, so a rule can put a quantiser behind it.

    Args:
        num_classes: Width of the classifier.
        vocab_size: Number of tokens.
        hidden_size: Width of the residual stream.
        num_hidden_layers: Number of encoder layers.
        num_attention_heads: Heads per layer; divides ``hidden_size``.
        intermediate_size: Width of the feed-forward part.
        max_position_embeddings: Longest text, in tokens.
        type_vocab_size: Number of segments; 2 for pairs of texts.
        hidden_act: Activation of the feed-forward part; ``gelu`` is the exact one, with erf.
        layer_norm_eps: Added to the variance in LayerNorm.
        hidden_dropout_prob: Dropout after embeddings and sublayers, in [0, 1).
        attention_probs_dropout_prob: Dropout of attention probabilities, in [0, 1).
        classifier_dropout: Dropout before the classifier, in [0, 1); None for ``hidden_dropout_prob``.
        pad_token_id: Row of the embedding that gets no gradient.

    Shape:
        ``input_ids``, ``attention_mask``, ``token_type_ids`` ``[B, S]`` to ``.logits`` ``[B, num_classes]``.

    Raises:
        ConfigError: A size that cannot work.

    Reference:
        Devlin et al., NAACL 2019; Wang et al., NeurIPS 2020 (MiniLM).
    """
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.activations import ACT2FN

    sizes = dict(locals())
    sizes = {key: sizes[key] for key in accepted(build_bert) if key != "num_classes"}
    for key, value in sizes.items():
        if key.endswith(("_size", "_layers", "_heads", "_embeddings")):
            require(value >= 1, key, value, "a whole number >= 1")
        elif "dropout" in key:
            require(value is None or 0 <= value < 1, key, value, "a probability in [0, 1)")
    require(layer_norm_eps > 0, "layer_norm_eps", layer_norm_eps, "a number > 0")
    require(
        0 <= pad_token_id < vocab_size, "pad_token_id", pad_token_id, f"a token below vocab_size={vocab_size}"
    )
    if hidden_size % num_attention_heads:
        divisors = ", ".join(str(heads) for heads in range(1, 17) if hidden_size % heads == 0)
        raise ConfigError(
            f"model.args.num_attention_heads: {num_attention_heads} heads do not divide "
            f"model.args.hidden_size={hidden_size}; these do: {divisors}"
        )
    if hidden_act not in ACT2FN:
        raise ConfigError(
            f"model.args.hidden_act: unknown activation {hidden_act!r}; {did_you_mean(hidden_act, ACT2FN)}"
        )
    sizes |= {"num_labels": num_classes, "attn_implementation": "eager"}
    return BertForSequenceClassification(BertConfig(**sizes))


def read_bert_sizes(folder: Path) -> dict[str, Any]:
    """Read the arguments of :func:`build_bert` from a folder's ``config.json``.

    Raises:
        CheckpointError: The file is damaged.
        ConfigError: It describes another kind of model.
    """
    from transformers import BertConfig

    path = folder / "config.json"
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        kind = written.get("model_type", "bert")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"model.weights: {path} is damaged: {error}") from None
    if kind != "bert":
        raise ConfigError(
            f"model.weights: {path} describes a model of type {kind!r}; model=bert needs 'bert'"
        )
    if written.get("position_embedding_type", "absolute") != "absolute" or written.get("is_decoder"):
        raise ConfigError(
            f"model.weights: {path} describes a decoder or relative positions; model=bert has neither"
        )
    # What an old config.json leaves out has the default of its library, not of our function.
    defaults = BertConfig()
    return {
        key: written.get(key, getattr(defaults, key, None))
        for key in accepted(build_bert)
        if key != "num_classes"
    }


BERT = Architecture(
    build=build_bert,
    input_kind="text",
    head=("classifier.",),
    optional=("bert.pooler.",),
    renames=(
        (r"re:(.*LayerNorm)\.gamma", r"\1.weight"),
        (r"re:(.*LayerNorm)\.beta", r"\1.bias"),
        # Heads of the pre-training, and a table of row numbers that older files hold.
        (r"re:cls\..*", None),
        (r"re:(bert\.)?embeddings\.position_ids", None),
    ),
    read_sizes=read_bert_sizes,
)
