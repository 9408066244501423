"""Calling any model with a batch: a mapping of tensors in, logits out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from snn.errors import ConversionError


def labels_removed(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The model inputs of a batch."""
    return {k: v for k, v in batch.items() if k != "labels"}


def first_sample(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of the first sample of a batch alone; values without rows as they are."""
    return {k: v[:1] if v.dim() else v for k, v in inputs.items()}


def call_model(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    """Logits of ``model``; see :func:`call`.

    Raises:
        ConversionError: The model returns neither a tensor nor something with logits.
    """
    return read_logits(call(model, inputs))


def call(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """What ``model`` returns; a single input that the forward does not know by name is passed by position."""
    known = inspect.signature(model.forward).parameters
    by_name = any(p.kind is p.VAR_KEYWORD for p in known.values()) or all(k in known for k in inputs)
    return model(**inputs) if by_name else model(*inputs.values())


def read_logits(output: Any) -> Tensor:
    """The logits, or else the last hidden state, of whatever a model returns."""
    for name in ("logits", "last_hidden_state"):
        value = getattr(output, name, None)
        if value is not None:
            return value
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        output = output[0]
    if not isinstance(output, Tensor):
        raise ConversionError(
            f"the model returned a {type(output).__name__}; expected a tensor or an output with logits"
        )
    return output
