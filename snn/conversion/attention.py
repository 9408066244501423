"""Fused attention in separate calls, so that a rule about its softmax reaches the softmax.

``scaled_dot_product_attention`` is one call, whose probabilities nobody sees. Within a module that has a rule about
``softmax`` it is computed as the products and the softmax that it consists of: the choice of a kernel
(``attn_implementation=sdpa``, timm's ``fused_attn``) leaves no attention unquantised in silence.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snn.conversion.function_calls import function_name
from snn.errors import ConversionError

SOFTMAX = "softmax"
_FUSED = "scaled_dot_product_attention"
#: Attention in one piece that has no such form here.
_OPAQUE = {"multi_head_attention_forward", "native_multi_head_attention", "transformer_encoder_layer_fwd"}


def attention_in_calls(functions: set[str]) -> AbstractContextManager[Any]:
    """In force inside: attention in separate calls, if ``softmax`` is among ``functions`` that somebody serves."""
    served = SOFTMAX in {name.partition("#")[0] for name in functions}
    return AttentionInCalls() if served else nullcontext()


class AttentionInCalls(TorchFunctionMode):
    """Replaces fused attention by :func:`attention`, whose calls the modes around this one see."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function_name(func)
        if name == _FUSED:
            return attention(*args, **(kwargs or {}))
        if name in _OPAQUE:
            raise ConversionError(
                f"{name} computes attention in one piece, where no rule reaches the softmax: "
                "use an attention made of separate products"
            )
        return func(*args, **(kwargs or {}))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` in separate calls.

    A query that sees no key gets zeros, as from the fused kernel, and no NaN.

    Shape:
        ``[..., L, D]``, ``[..., S, D]`` and ``[..., S, E]`` to ``[..., L, E]``.
    """
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
    scores = torch.matmul(query, key.transpose(-2, -1)) * (
        query.shape[-1] ** -0.5 if scale is None else scale
    )
    hidden = None
    if is_causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        hidden = attn_mask.logical_not()
    elif attn_mask is not None:
        scores, hidden = scores + attn_mask, attn_mask == -torch.inf
    if hidden is not None:
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, -1)
    if hidden is not None:
        weights = weights.masked_fill(hidden.all(-1, keepdim=True), 0)
    if dropout_p:
        weights = nn.functional.dropout(weights, dropout_p)
    return torch.matmul(weights, value)
