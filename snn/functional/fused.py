"""Chains of elementwise functions as one pass over memory, by a compiler."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch

from snn.functional.plain import plain_functions

_Result = TypeVar("_Result")

_fused: ContextVar[bool] = ContextVar("fused", default=False)


@contextmanager
def fused() -> Iterator[None]:
    """Within it, quantisers and LIF neurons that train are compiled: one pass over memory, not a dozen.

    On a CPU codes and spikes are the same to the last bit; gradients are rounded or summed in another order.
    Quantisers have a kernel of C++ there (:mod:`snn.functional.kernel`), ready in a second; all else is compiled by
    torch, each kind of use when it is first met, which takes up to a minute.
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
    """The function of tensors without gradients as one pass, for any sizes; the same for the same function."""
    fast = torch.compile(function, dynamic=True)

    def call(*arguments: Any) -> _Result:
        with plain_functions():
            return fast(*arguments)

    return call
