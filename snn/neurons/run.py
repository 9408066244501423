"""One run of a spiking network over time: which steps are being computed, and what neurons remember between
chunks.

State lives here, not in the modules: a neuron asks for the run in force, which the network opens at the start
of a forward and drops at its end. So state is always fresh, never saved, never copied, and never shared
between two networks; a module that is used twice in one forward has two trajectories.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from snn.errors import ConversionError
from snn.functional.integer_products import IntegerProducts

_current: ContextVar[Run | None] = ContextVar("run", default=None)


@dataclass(frozen=True)
class Event:
    """What a neuron did in one chunk of time, to all samples in force or to some of them.

    The counts are the neuron's, which may go on to make its output in their place: what an observer wants to keep
    of them it copies.

    Args:
        neuron: The module.
        call: Which of its calls in this forward.
        aggregate: Its input ``A_t``, ``[t, B, ...]``.
        unit: What one spike is worth in the aggregate, broadcastable to it.
        counts: ``N_t``, ``[t, B, ...]``; the final count alone in a collapsed run.
        previous: Counts at the end of the chunk before, ``[B, ...]``.
        mask: Which of the neurons are real, broadcastable to one step; ``None``: all are.
        samples: Which of the samples in force these are.
        batch: How many samples are in force.
    """

    neuron: nn.Module
    call: int
    aggregate: Tensor
    unit: Tensor
    counts: Tensor
    previous: Tensor
    mask: Tensor | None
    samples: slice
    batch: int

    @property
    def size(self) -> int:
        """How many samples these are."""
        return self.samples.stop - self.samples.start


Observer = Callable[["Run", Event], None]
#: Told of the spikes of one step after the other, ``[B, ...]``, which are overwritten afterwards.
Seen = Callable[[Tensor], None]


class Watcher(ABC):
    """An observer that looks at the spikes of each step of a causal neuron as they are formed.

    Afterwards they are changes of counts that have long left the cache; this is what makes counting cheap.
    """

    @abstractmethod
    def watch(
        self, run: Run, neuron: nn.Module, call: int, mask: Tensor | None, samples: slice
    ) -> Seen | None:
        """What looks at the spikes of a chunk; ``None``: nothing does.

        Args:
            run: The run in force.
            neuron: The module.
            call: Which of its calls in this forward.
            mask: Which of the neurons are real, broadcastable to one step; ``None``: all are.
            samples: Which of the samples in force these are.
        """

    def __call__(self, run: Run, event: Event) -> None:  # noqa: B027  (most have nothing left to do)
        """The chunk is over; a causal neuron's spikes have all been seen."""


@dataclass
class _All:
    """Several that look at the same spikes."""

    seen: list[Seen]
    steps: int = 0

    def __call__(self, spikes: Tensor) -> None:
        self.steps += 1
        for one in self.seen:
            one(spikes)


#: Neurons that are computed together: few enough for a cache, enough to be worth the calls.
_CACHED = 2**18


@dataclass
class Run:
    """A forward of a whole network over ``T`` steps, done in chunks.

    Args:
        T: Number of time steps.
        coding: ``mean``: the input is given at every step, signals are running means; ``sum``: the input is
            given once, signals are running sums.
        times: The steps of the present chunk, 1-based.
        rows: Samples in force, by their number in the batch: fewer and fewer of them where settled ones leave.
            ``None``: every row is a sample, and all are there.
        collapsed: Compute the final counts alone, from the final aggregate.
        observers: Told of every neuron's counts; if each has a true attribute ``in_parts``, of a few samples at once.
        products: Told what neurons emit, to multiply it as integers; ``None``: nobody does.
        seen: Told of the spikes of each step by the neuron that is being computed, where it forms them one by one.
    """

    T: int
    coding: str
    times: range = range(0)
    rows: Tensor | None = None
    collapsed: bool = False
    observers: list[Observer] = field(default_factory=list)
    products: IntegerProducts | None = None
    state: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    calls: Counter[int] = field(default_factory=Counter)
    seen: _All | None = None

    @property
    def steps(self) -> int:
        return len(self.times)

    def start_chunk(self, times: range) -> None:
        self.times = times
        self.calls.clear()

    def enter(self, neuron: nn.Module) -> int:
        """Number of this call of ``neuron`` within the present chunk."""
        call = self.calls[id(neuron)]
        self.calls[id(neuron)] += 1
        return call

    def watch(self, neuron: nn.Module, call: int, mask: Tensor | None, samples: slice) -> None:
        """Let watchers see the spikes of the chunk that is about to be computed; see :meth:`Watcher.watch`."""
        watchers = [one for one in self.observers if isinstance(one, Watcher)]
        looking = [one.watch(self, neuron, call, mask, samples) for one in watchers]
        seen = [one for one in looking if one is not None]
        self.seen = _All(seen) if seen else None

    def watched(self, counts: Tensor, previous: Tensor) -> None:
        """The chunk is computed: show the spikes of a neuron that did not form them one by one.

        Args:
            counts: ``N_t``, ``[t, B, ...]``.
            previous: Counts at the end of the chunk before, ``[B, ...]``.
        """
        seen, self.seen = self.seen, None
        if seen is not None and seen.steps == 0:
            for now in counts:
                seen(now - previous)
                previous = now

    def parts(self, over_time: Tensor) -> Iterator[tuple[slice, slice]]:
        """Cut a layer into parts that are computed, and looked at, one after the other.

        Args:
            over_time: The layer's input, ``[t, rows, ...]``.

        Yields:
            Samples, and the rows that they have.
        """
        samples, rows = self._layout(over_time.shape[1])
        alike = all(getattr(one, "in_parts", False) for one in self.observers)
        whole = over_time.device.type != "cpu" or not alike
        size = samples if whole else max(1, _CACHED * samples // max(1, over_time[0].numel()))
        for start in range(0, samples, size):
            stop = min(start + size, samples)
            yield slice(start, stop), slice(start * rows, stop * rows)

    def _layout(self, rows: int) -> tuple[int, int]:
        """Number of samples in force, and of rows that each of them has."""
        samples = rows if self.rows is None else self.rows.numel()
        if rows % samples:
            raise ConversionError(
                f"a neuron met {rows} rows in a batch of {samples}: the first axis of its input must run "
                "over samples, or over parts of samples"
            )
        return samples, rows // samples

    def by_sample(self, x: Tensor, axis: int = 0) -> Tensor:
        """Put the rows of each sample together: ``[B*r, ...]`` to ``[B, r, ...]``.

        Modules may cut a sample into several rows, such as windows of a picture, as long as it stays outermost.

        Args:
            x: Something with rows.
            axis: Where the rows are.

        Raises:
            ConversionError: The number of rows is no multiple of the number of samples.
        """
        return x.unflatten(axis, self._layout(x.shape[axis]))

    def keep(self, which: Tensor) -> None:
        """Go on with some of the samples; what neurons remember of the others is dropped.

        Args:
            which: Their places among :attr:`rows`.
        """
        assert self.rows is not None
        self.state = {key: self.by_sample(x)[which].flatten(0, 1) for key, x in self.state.items()}
        self.rows = self.rows[which]

    @property
    def units(self) -> list[float]:
        """What one spike is worth, in thresholds, at each step of the chunk; one number where it is always the same."""
        if self.coding == "sum":
            return [1.0]
        return [1 / t for t in ([self.T] if self.collapsed else self.times)]

    def final_unit(self, threshold: Tensor) -> Tensor:
        """What one spike is worth in the aggregate at T, in the shape of ``threshold``."""
        return threshold if self.coding == "sum" else threshold / threshold.new_full((), self.T)

    def unit(self, threshold: Tensor, dims: int) -> Tensor:
        """What one spike is worth in the aggregate at each step of the chunk: ``[t, 1, ...]`` by the shape of
        ``threshold``.

        ``threshold`` under ``sum``, ``threshold/t`` under ``mean``.

        Args:
            threshold: Firing threshold, broadcastable to one step.
            dims: Number of axes of one step, batch included.
        """
        if self.coding == "sum":
            return threshold
        times = torch.arange(
            self.times.start, self.times.stop, dtype=threshold.dtype, device=threshold.device
        ).reshape(-1, *[1] * dims)
        return threshold / times


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Put ``run`` in force."""
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)


def current_run() -> Run:
    """The run in force.

    Raises:
        ConversionError: A neuron was called outside a spiking network's forward.
    """
    run = _current.get()
    if run is None:
        raise ConversionError(
            "a spiking neuron works only inside a SpikingNetwork: call the network, not its parts"
        )
    return run
