"""Start a SpikingBERT from a BERT: its embeddings, and the weights of some of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from snn.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from snn.models.spikingbert.model import SpikingBert

#: Ours → what BERT calls it, below ``embeddings`` and below one layer.
_EMBEDDINGS = {
    "words": "word_embeddings",
    "positions": "position_embeddings",
    "segments": "token_type_embeddings",
    "norm": "LayerNorm",
}
_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}


def evenly_spaced(teacher_layers: int, student_layers: int) -> list[int]:
    """The last layer of each of as many equal blocks of the teacher's layers as the student has.

    Raises:
        ConfigError: There are no equal blocks.

    Example:
        >>> evenly_spaced(12, 4)
        [2, 5, 8, 11]
    """
    if teacher_layers % student_layers:
        raise ConfigError(
            f"model.args.num_hidden_layers: {student_layers} layers do not divide the teacher's {teacher_layers}; "
            "choose a divisor, or say which layers to take"
        )
    block = teacher_layers // student_layers
    return [block * (index + 1) - 1 for index in range(student_layers)]


@torch.no_grad()
def initialize_from_teacher(
    student: SpikingBert, teacher: nn.Module, layers: Sequence[int] | None = None
) -> None:
    """Copy the embeddings, and one layer of the teacher into each of the student's; the classifier is left.

    Args:
        student: Changed in place.
        teacher: A BERT of transformers, such as ``snn.create_model("bert", weights="minilm")``.
        layers: The teacher's layer for each of the student's, from 0; None: :func:`evenly_spaced`.

    Raises:
        ConfigError: The teacher is no BERT, or has other sizes.
    """
    bert: Any = getattr(teacher, "bert", teacher)
    if not hasattr(bert, "embeddings") or not hasattr(getattr(bert, "encoder", None), "layer"):
        raise ConfigError(
            f"teacher: SpikingBERT can start from the layers of a BERT (model=bert), not of a {type(teacher).__name__}"
        )
    theirs = bert.encoder.layer
    chosen = evenly_spaced(len(theirs), len(student.layers)) if layers is None else list(layers)
    if len(chosen) != len(student.layers) or not all(0 <= index < len(theirs) for index in chosen):
        raise ConfigError(
            f"teacher: expected {len(student.layers)} of its layers 0 to {len(theirs) - 1}, got {chosen}"
        )
    pairs: list[tuple[nn.Module, Any, dict[str, str]]]
    pairs = [(student.embeddings, bert.embeddings, _EMBEDDINGS)]
    pairs += [(ours, theirs[index], _LAYER) for ours, index in zip(student.layers, chosen)]
    copies: list[tuple[nn.Parameter, Tensor]] = []
    for target, source, names in pairs:
        for our_name, their_name in names.items():
            given = dict(source.get_submodule(their_name).named_parameters())
            for kind, parameter in target.get_submodule(our_name).named_parameters():
                copies.append((parameter, given[kind]))
                if parameter.shape != given[kind].shape:
                    raise ConfigError(
                        f"teacher: its {their_name}.{kind} has shape {list(given[kind].shape)}, but the student's "
                        f"has {list(parameter.shape)}; both need the same sizes and the same tokenizer"
                    )
    # Only now that all of it fits.
    for parameter, value in copies:
        parameter.copy_(value)
