"""The spiking network: a converted model, run over T time steps in chunks of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model
from snn.conversion.spread import SpreadBiases, over_time, shares
from snn.conversion.surgery import place
from snn.errors import ConfigError, ConversionError
from snn.functional.integer_products import IntegerProducts, integers_pay
from snn.functional.padding import valid_positions
from snn.functional.time_axis import unfold
from snn.neurons.base import Neuron
from snn.neurons.execution import check_execution, check_spread
from snn.neurons.recorder import LayerSpikes, SpikeRecorder
from snn.neurons.run import Observer, Run, running
from snn.neurons.settling import Settling
from snn.neurons.tally import Selection


@dataclass
class SpikingOutput:
    """What a run gives.

    Args:
        logits: The read-out after each step, ``[T, B, C]``: the running mean or sum of what the last layer
            received. A collapsed run has the last step alone, ``[1, B, C]``.
        spikes: By layer; empty if nothing was recorded.
        steps: Steps that were computed: fewer than T if every count of every sample had settled.
        settled: For each sample the step after which none of its counts changed any more, ``[B]``; T where one
            still did. T in runs that do not look: under coding ``mean``, collapsed, or in one chunk without
            counting spikes.
    """

    logits: Tensor
    spikes: dict[str, LayerSpikes]
    steps: int
    settled: Tensor


class SpikingNetwork(nn.Module):
    """A model whose quantisers have been replaced by neurons, and the time over which it runs.

    Args:
        model: The converted model, in evaluation mode.
        T: Number of time steps.
        coding: ``mean`` or ``sum``; see :class:`snn.neurons.run.Run`.
        execution: ``parallel``: all steps in one call; ``stepwise``: one step at a time, memory flat in T;
            ``collapsed``: the final counts alone, at the cost of one step.
        chunk: Steps per call, instead of what ``execution`` says.
        spread: Steps over which inputs and biases are given, in equal parts (coding ``sum``); 1: all at the first
            step.
        integer: Multiply spikes as integers where the machine is faster so; see
            :mod:`snn.functional.integer_products`.

    Raises:
        ConfigError: T < 1, an unknown execution, or one that the neuron cannot do, or a spread that cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        T: int,
        coding: str,
        execution: str = "parallel",
        chunk: int | None = None,
        spread: int = 1,
        integer: bool = False,
    ):
        super().__init__()
        if T < 1:
            raise ConfigError(f"T must be at least 1; got {T}")
        self.model, self.T, self.coding = model, int(T), coding
        self.execution, self.chunk, self.spread = execution, chunk, spread
        first = next(iter(self.neurons.values()), None)
        if first is None:
            raise ConversionError("the model holds no neuron: convert it first (snn.convert)")
        #: The kind of its neurons; all are of one.
        self.kind = type(first)
        check_execution(self.kind, self.T, execution, chunk)
        check_spread(spread, coding, self.T)
        super().train(False)
        self.integer = integer
        self._products = IntegerProducts()

    @property
    def neurons(self) -> dict[str, Neuron]:
        """Neurons by dotted name, in the order of the modules."""
        return {name: m for name, m in self.model.named_modules() if isinstance(m, Neuron)}

    @property
    def causal(self) -> bool:
        return self.kind.causal

    def forward(
        self,
        execution: str | None = None,
        chunk: int | None = None,
        record: bool | SpikeRecorder = True,
        observers: tuple[Observer, ...] = (),
        integer: bool | None = None,
        **inputs: Any,
    ) -> SpikingOutput:
        """Run the network on a batch.

        Where time is cut into chunks and signals are sums, a sample leaves the batch once it has settled: when no
        count of it changed in the last step of a chunk and all of its input is there. Nothing about it would change
        any more, so its read-out stays as it is.

        Args:
            execution: Instead of the network's own.
            chunk: Likewise.
            record: Whether to count spikes, or what counts them.
            observers: Told of what every neuron does, to the samples that are in force then (``run.rows``).
            integer: Instead of the network's own.
            inputs: Model inputs, ``[B, ...]`` each; ``labels`` are ignored.

        Shape:
            See :class:`SpikingOutput`.
        """
        inputs.pop("labels", None)
        execution = execution or self.execution
        if chunk is None and execution == self.execution:
            chunk = self.chunk
        check_execution(self.kind, self.T, execution, chunk)
        rows = _samples(inputs)
        run = Run(
            self.T, self.coding, rows=rows, collapsed=execution == "collapsed", observers=list(observers)
        )
        asked = self.integer if integer is None else integer
        if asked and self.spread == 1 and integers_pay(rows.device):
            run.products = self._products
        recorder = None
        if record:
            recorder = record if isinstance(record, SpikeRecorder) else self.recorder()
            run.observers.append(recorder)
        chunks, settling = list(self._chunks(execution, chunk)), None
        if self.coding == "sum" and not run.collapsed and (record or len(chunks) > 1):
            settling = Settling(rows, self.spread)
            run.observers.append(settling)
        logits: list[Tensor] = []
        with running(run):
            for times in chunks:
                run.start_chunk(times)
                logits.extend(_of_all(self._step(run, inputs), logits, run, rows))
                moved = settling.end_chunk(run) if settling else None
                if moved is None or not self.spread < times.stop <= self.T:
                    continue
                going_on = moved.nonzero().flatten()  # the one place where the host waits for the device
                if not len(going_on):
                    break
                if len(going_on) < len(moved):
                    run.keep(going_on)
                    inputs = {k: v[going_on] if _is_rows(v) else v for k, v in inputs.items()}
        computed = len(logits)
        if execution != "collapsed":
            logits.extend([logits[-1]] * (self.T - computed))
        return SpikingOutput(
            torch.stack(logits),
            recorder.layers() if recorder else {},
            computed,
            torch.full_like(rows, self.T) if settling is None else settling.steps,
        )

    def _step(self, run: Run, inputs: dict[str, Any]) -> Tensor:
        """Read-out after each step of the present chunk, ``[t, B, C]``."""
        arrived = shares(run.times, self.spread)
        folded = {k: over_time(k, v, arrived) for k, v in inputs.items()}
        partly = SpreadBiases(folded, arrived) if min(arrived) < 1 else nullcontext()
        with valid_positions(inputs.get("attention_mask")), partly, run.products or nullcontext():
            return unfold(call_model(self.model, folded), run.steps)

    def recorder(self, selections: Mapping[str, Sequence[Selection]] | None = None) -> SpikeRecorder:
        """What counts spikes in one forward; see :class:`SpikeRecorder`."""
        return SpikeRecorder({m: place(name) for name, m in self.neurons.items()}, selections)

    def save(self, folder: str | Path, **extra: Any) -> Path:
        """Write a checkpoint; see :func:`snn.conversion.checkpoint.save_checkpoint`."""
        from snn.conversion.checkpoint import save_checkpoint

        return save_checkpoint(self, folder, **extra)

    def train(self, mode: bool = True) -> SpikingNetwork:
        if mode:
            raise ConversionError(
                "a spiking network runs in evaluation mode only; train the quantised network instead"
            )
        return super().train(False)

    def _chunks(self, execution: str, chunk: int | None) -> Iterator[range]:
        if execution == "collapsed":
            yield range(self.T, self.T + 1)
            return
        size = chunk or (1 if execution == "stepwise" else self.T)
        for start in range(1, self.T + 1, size):
            yield range(start, min(start + size, self.T + 1))


def _is_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0


def _samples(inputs: dict[str, Any]) -> Tensor:
    """Numbers of the samples of a batch, on its device.

    Raises:
        ConversionError: Inputs have different numbers of rows.
    """
    tensors = {k: v for k, v in inputs.items() if _is_rows(v)}
    sizes = {k: v.shape[0] for k, v in tensors.items()}
    if len(set(sizes.values())) != 1:
        listed = ", ".join(f"{k}: {size}" for k, size in sizes.items()) or "none"
        raise ConversionError(f"a spiking network needs inputs with one row per sample; got rows of {listed}")
    first = next(iter(tensors.values()))
    return torch.arange(first.shape[0], device=first.device)


def _of_all(part: Tensor, before: list[Tensor], run: Run, rows: Tensor) -> Tensor:
    """The read-out of all samples from that of those in force; the others keep their last one."""
    assert run.rows is not None
    if run.rows.shape == rows.shape:
        return part
    whole = before[-1].expand(len(part), *before[-1].shape).clone()
    whole[:, run.rows] = part
    return whole
