"""The weights of one network as those of another that computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snn.errors import ConfigError
from snn.models.renaming import rename_keys

if TYPE_CHECKING:
    from torch import Tensor

#: DistilBERT has no choice here.
_DISTILBERT_EPS = 1e-12
_POSITIONS, _TYPES = "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"
_BERT_TO_DISTILBERT: tuple[tuple[str, str | None], ...] = (
    (r"re:(pooler|classifier)\..*", None),
    (_TYPES, None),
    (r"re:encoder\.(layer\.\d+\.attention)\.self\.query\.(.*)", r"transformer.\1.q_lin.\2"),
    (r"re:encoder\.(layer\.\d+\.attention)\.self\.key\.(.*)", r"transformer.\1.k_lin.\2"),
    (r"re:encoder\.(layer\.\d+\.attention)\.self\.value\.(.*)", r"transformer.\1.v_lin.\2"),
    (r"re:encoder\.(layer\.\d+\.attention)\.output\.dense\.(.*)", r"transformer.\1.out_lin.\2"),
    (r"re:encoder\.(layer\.\d+)\.attention\.output\.LayerNorm\.(.*)", r"transformer.\1.sa_layer_norm.\2"),
    (r"re:encoder\.(layer\.\d+)\.intermediate\.dense\.(.*)", r"transformer.\1.ffn.lin1.\2"),
    (r"re:encoder\.(layer\.\d+)\.output\.dense\.(.*)", r"transformer.\1.ffn.lin2.\2"),
    (r"re:encoder\.(layer\.\d+)\.output\.LayerNorm\.(.*)", r"transformer.\1.output_layer_norm.\2"),
)
_BERT_TO_ROBERTA: tuple[tuple[str, str | None], ...] = ((r"re:(pooler|classifier)\..*", None),)


def distilbert_args(bert: dict[str, Any]) -> dict[str, Any]:
    """Sizes of the DistilBERT that a BERT can be re-expressed as.

    Raises:
        ConfigError: Its norms differ from DistilBERT's.
    """
    if bert["layer_norm_eps"] != _DISTILBERT_EPS:
        raise ConfigError(
            f"model.weights: a BERT with layer_norm_eps={bert['layer_norm_eps']} cannot become a DistilBERT, "
            f"which has {_DISTILBERT_EPS}; model=bert takes it as it is"
        )
    return {name: value for name, value in bert.items() if name not in ("type_vocab_size", "layer_norm_eps")}


def distilbert_tensors(bert: dict[str, Tensor], _args: dict[str, Any]) -> dict[str, Tensor]:
    """A BERT as DistilBERT, which knows no segments: the first one is part of every position.

    Exact for single texts, but for the rounding of a sum; in pairs, the second text counts as the first segment.
    """
    tensors = rename_keys(bert, (), _BERT_TO_DISTILBERT)
    if _TYPES in bert:
        tensors[_POSITIONS] = bert[_POSITIONS] + bert[_TYPES][0]
    return tensors


def roberta_args(bert: dict[str, Any]) -> dict[str, Any]:
    """Sizes of the RoBERTa that a BERT can be re-expressed as: positions count from ``pad_token_id + 1``."""
    rows = bert["max_position_embeddings"] + bert["pad_token_id"] + 1
    return {**bert, "max_position_embeddings": rows, "type_vocab_size": 1}


def roberta_tensors(bert: dict[str, Tensor], args: dict[str, Any]) -> dict[str, Tensor]:
    """A BERT as RoBERTa, whose table of positions begins with rows for the padding; of segments the first is kept.

    Exact for single texts.
    """
    import torch

    tensors = rename_keys(bert, (), _BERT_TO_ROBERTA)
    if _TYPES in bert:
        tensors[_TYPES] = bert[_TYPES][:1]
    if _POSITIONS in bert:
        positions = bert[_POSITIONS]
        before = args["max_position_embeddings"] - len(positions)
        tensors[_POSITIONS] = torch.cat([positions.new_zeros(before, positions.shape[1]), positions])
    return tensors


def t5_encoder_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the encoder of a whole T5 the embedding that it shares with the decoder."""
    shared = tensors.pop("shared.weight", None)
    return tensors if shared is None else {**tensors, "encoder.embed_tokens.weight": shared}
