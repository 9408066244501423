"""Latency: wall time of a warm network, by execution and batch size, and how many steps lie one behind the other.

Wall time is that of the machine that simulates. What a spiking machine would need is counted in steps: a layer of
causal neurons passes each step on as it comes, while neurons that are not causal need all T steps of their input
before they can fire, so that the layers wait for each other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from snn.conversion.call import call, labels_removed
from snn.conversion.network import SpikingNetwork
from snn.errors import ConfigError
from snn.evaluation.analyses import Analysis
from snn.evaluation.depth import layers_in_sequence
from snn.evaluation.session import Session
from snn.neurons.base import Neuron
from snn.neurons.execution import EXECUTIONS, check_execution
from snn.neurons.native import NativeNeuron

log = logging.getLogger(__name__)

#: Execution of a network that spikes by itself, which has but one.
OWN = "own"
#: Calls that warm a network up: libraries load, caches fill, kernels are chosen.
WARM = 2

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Timing:
    """Wall time of one execution at one batch size.

    Args:
        execution: ``parallel``, ``stepwise``, ``collapsed`` or ``own``.
        batch: Samples per call.
        milliseconds: Per sample, median over the calls.
        low: First quartile.
        high: Third quartile.
        calls: How many.
    """

    execution: str
    batch: int
    milliseconds: float
    low: float
    high: float
    calls: int


def executions(network: nn.Module) -> tuple[dict[str, Callable[..., Any]], dict[str, str]]:
    """How a network can be run without counting spikes, by execution; and why not, for the others."""
    if not isinstance(network, SpikingNetwork):
        return {OWN: lambda **inputs: call(network, inputs)}, {}
    possible: dict[str, Callable[..., Any]] = {}
    refused = {}
    for execution in EXECUTIONS:
        chunk = network.chunk if execution == network.execution else None
        try:
            check_execution(network.kind, network.T, execution, chunk)
        except ConfigError as error:
            refused[execution] = str(error)
        else:
            possible[execution] = partial(network, execution=execution, record=False)
    return possible, refused


@torch.no_grad()
def time_executions(network: nn.Module, batches: Iterable[Inputs], calls: int) -> list[Timing]:
    """Time every execution of a network, in turns, so that a busy machine slows all of them alike.

    Args:
        network: Converted, or one that spikes by itself; in evaluation mode.
        batches: Model inputs on its device, all of one size; taken in turns, the same for each execution.
        calls: How many of each are timed.

    Returns:
        One for each execution that the network can do.
    """
    given = list(batches)
    size = len(next(iter(given[0].values())))
    runs, _ = executions(network)
    for run in runs.values():
        for inputs in given[:WARM] * WARM:
            run(**inputs)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(calls):
        for name, run in runs.items():
            seconds[name].append(_seconds(run, given[number % len(given)]))
    timings = []
    for name, own in seconds.items():
        low, middle, high = (1e3 * float(x) / size for x in np.percentile(own, [25, 50, 75]))
        timings.append(Timing(name, size, middle, low, high, calls))
    return timings


def _seconds(run: Callable[..., Any], inputs: Inputs) -> float:
    device = next(iter(inputs.values())).device
    _wait(device)
    start = time.perf_counter()
    run(**inputs)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@dataclass
class Latency(Analysis):
    """Measure wall time per sample for each execution and batch size; count the steps that wait for each other.

    Attributes:
        batch_sizes: Samples per call; the first is what frontiers show.
        calls: How many of each are timed, on batches of ``evaluation.split`` in turns.
    """

    native: ClassVar[bool] = True

    batch_sizes: list[int] = field(default_factory=lambda: [1, 16])
    calls: int = 20

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ConfigError(
                f"analysis.batch_sizes must be one number or more, each at least 1; got {self.batch_sizes}"
            )
        if self.calls < 1:
            raise ConfigError(f"analysis.calls must be at least 1; got {self.calls}")

    def check(self, session: Session) -> None:
        split = session.evaluated_split()
        samples = len(session.data.splits[split])
        if max(self.batch_sizes) > samples:
            raise ConfigError(
                f"analysis.batch_sizes: {max(self.batch_sizes)} is more than the {samples} samples of "
                f"{session.dataset.name}'s {split} split"
            )

    def run(self, session: Session, network: nn.Module) -> None:
        with session.timed("analysis latency"):
            given = {size: self._batches(session, size) for size in self.batch_sizes}
            timings = [
                t for size in self.batch_sizes for t in time_executions(network, given[size], self.calls)
            ]
        own = network.execution if isinstance(network, SpikingNetwork) else OWN
        first = next(t for t in timings if t.execution == own)
        depth = layers_in_sequence(network, given[self.batch_sizes[0]][0])
        causal = all(m.causal for m in network.modules() if isinstance(m, Neuron | NativeNeuron))
        T = int(session.summary["results"]["spiking"]["T"])
        session.summary["latency"] = {
            "T": T,
            "execution": own,
            "batch": first.batch,
            "milliseconds": first.milliseconds,
            "timings": [asdict(t) for t in timings],
            "refused": executions(network)[1],
            "split": session.config.evaluation.split,
            "device": str(session.device),
            "threads": torch.get_num_threads(),
            "causal": causal,
            "layers": depth,
            "steps": steps_in_sequence(depth, T, causal) if depth else None,
        }
        rows = [list(asdict(t).values()) for t in timings]
        session.trackers.table("latency", list(asdict(first)), rows)
        log.info(
            "latency: %.3g ms per sample at batch %d, %s (quartiles %.3g to %.3g)",
            first.milliseconds,
            first.batch,
            own,
            first.low,
            first.high,
        )

    def _batches(self, session: Session, size: int) -> list[Inputs]:
        """Full batches of the split as it comes, so that texts of all lengths take part."""
        loader = session.batches(session.config.evaluation.split, size, bucket=False)
        found: Sequence[dict[str, Tensor]] = [labels_removed(batch) for batch in islice(loader, self.calls)]
        full = [inputs for inputs in found if len(next(iter(inputs.values()))) == size]
        if not full:  # broken pictures were left out of every one
            raise ConfigError(
                f"analysis.batch_sizes: no batch of {size} of {session.dataset.name}'s "
                f"{session.config.evaluation.split} split is whole"
            )
        return [{k: v.to(session.device) for k, v in inputs.items()} for inputs in full]


def steps_in_sequence(layers: int, T: int, causal: bool) -> int:
    """Steps from the first input to the last output on a machine that computes a layer's step at a time.

    Example:
        >>> steps_in_sequence(6, 8, causal=True), steps_in_sequence(6, 8, causal=False)
        (13, 48)
    """
    return layers + T - 1 if causal else layers * T
