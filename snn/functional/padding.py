"""Which positions of a batch are real: padding counts in no threshold and in no spike rate.

The mask travels beside the network, in a context, because third-party modules between two of ours would not
carry it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_valid: ContextVar[Tensor | None] = ContextVar("valid", default=None)


@contextmanager
def valid_positions(mask: Tensor | None) -> Iterator[None]:
    """Declare the real positions of the batch that runs inside.

    Args:
        mask: ``[B, S]``, non-zero where a token is real; ``None`` when all are.
    """
    token = _valid.set(None if mask is None else mask.bool())
    try:
        yield
    finally:
        _valid.reset(token)


def current_mask(x: Tensor, over_keys: bool = False) -> Tensor | None:
    """The mask in force, shaped to broadcast over ``x``, or ``None`` if every element of ``x`` is real.

    Tokens are looked for where transformers put them: axis 1 of ``[B, S, D]``, axis 2 of ``[B, heads, S,
    ...]``. A tensor without a token axis, such as a pooled ``[B, D]``, is all real.

    Args:
        x: What the mask is for.
        over_keys: Whether the last axis of ``x`` runs over tokens too, as that of attention probabilities does.

    Shape:
        ``[B, S, 1]``, ``[B, 1, S, 1]``, or ``[B, 1, S, S]``.
    """
    mask = _valid.get()
    if mask is None or mask.shape[0] != x.shape[0]:
        return None
    if x.dim() == 3 and x.shape[1] == mask.shape[1]:
        return mask[:, :, None]
    if x.dim() == 4 and x.shape[2] == mask.shape[1]:
        queries = mask[:, None, :, None]
        return queries & mask[:, None, None, :] if over_keys and x.shape[3] == mask.shape[1] else queries
    return None
