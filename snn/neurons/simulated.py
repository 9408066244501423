"""Networks that simulate their neurons themselves, step by step, in the course of one forward.

Their neurons are no modules but functions of a name and a current, and a sample may leave before the last step. Who
looks on (:func:`snn.neurons.native.intercepted`) sees every layer at every step: the step is
:func:`snn.neurons.native.present_step`, and the samples are :func:`present_samples`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from snn.neurons.native import Around

#: Which samples of the batch, by their place in it.
Samples = Tensor | slice
_samples: ContextVar[Samples] = ContextVar("samples", default=slice(None))


class SimulatedNetwork(nn.Module):
    """Base of these networks."""

    #: Number of time steps.
    T: int
    #: Steps that are computed at once, which changes no spike.
    chunk: int
    #: Runs every layer of neurons at every step, where somebody looks on.
    around: Around | None = None


@contextmanager
def of_samples(samples: Samples) -> Iterator[None]:
    """Declare that what is computed inside belongs to some samples of the batch."""
    token = _samples.set(samples)
    try:
        yield
    finally:
        _samples.reset(token)


def present_samples() -> Samples:
    """The samples that :func:`of_samples` has declared; otherwise all."""
    return _samples.get()
