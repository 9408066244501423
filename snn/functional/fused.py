"""Chains of elementwise functions as one pass over memory, by a compiler."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

_Result = TypeVar("_Result")

_fused: ContextVar[bool] = ContextVar("fused", default=False)


@contextmanager
def fused() -> Iterator[None]:
    """Within it, quantisers and LIF neurons that train are compiled: one pass over memory, not a dozen.

    Codes and spikes are the same to the last bit; gradients are rounded or summed in another order. Each kind of
    use is compiled when it is first met, which takes up to a minute.
    """
    token = _fused.set(True)
    try:
        yield
    finally:
        _fused.reset(token)


def to_be_fused() -> bool:
    """Whether what is computed here is to be compiled: within :func:`fused`, and where gradients are wanted."""
    return _fused.get() and torch.is_grad_enabled()


@functools.cache
def compiled(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """The function as one pass, for any sizes; always the same for the same function."""
    return torch.compile(function, dynamic=True)
