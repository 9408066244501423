"""Running one neuron on a current, without a network around it."""

from __future__ import annotations

import torch
from torch import Tensor

from snn.functional.time_axis import fold
from snn.neurons.base import Neuron
from snn.neurons.run import Event, Run, running


def aggregates(current: Tensor, coding: str) -> Tensor:
    """``A_t`` of a current per step: its running sum or mean."""
    total = current.cumsum(0)
    if coding == "sum":
        return total
    return total / torch.arange(1, len(total) + 1, dtype=total.dtype).reshape(-1, *[1] * (total.dim() - 1))


def counts(neuron: Neuron, aggregate: Tensor, coding: str, chunk: int | None = None) -> Tensor:
    """``N_t`` at each step, ``[T, B, ...]``, run in chunks of time."""
    T, seen = len(aggregate), []

    def keep(_run: Run, event: Event) -> None:
        seen.append(event.counts.clone())

    run = Run(T, coding, observers=[keep])
    with running(run):
        for start in range(1, T + 1, chunk or T):
            times = range(start, min(start + (chunk or T), T + 1))
            run.start_chunk(times)
            neuron(fold(aggregate[times.start - 1 : times.stop - 1]))
    return torch.cat(seen)


def spikes(neuron: Neuron, current: Tensor, coding: str, chunk: int | None = None) -> Tensor:
    """Spikes of size 1 at each step."""
    emitted = counts(neuron, aggregates(current, coding), coding, chunk)
    return emitted.diff(dim=0, prepend=torch.zeros_like(emitted[:1]))
