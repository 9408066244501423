"""The spiking network: a converted model, run over T time steps in chunks of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model
from snn.conversion.surgery import place
from snn.errors import ConfigError, ConversionError
from snn.functional.padding import valid_positions
from snn.functional.time_axis import repeat_over_time, unfold
from snn.neurons.base import Neuron
from snn.neurons.execution import check_execution
from snn.neurons.recorder import LayerSpikes, SpikeRecorder
from snn.neurons.run import Event, Observer, Run, running


@dataclass
class SpikingOutput:
    """What a run gives.

    Args:
        logits: The read-out after each step, ``[T, B, C]``: the running mean or sum of what the last layer
            received. A collapsed run has the last step alone, ``[1, B, C]``.
        spikes: By layer; empty if nothing was recorded.
        steps: Steps that were computed: fewer than T if every count had settled.
    """

    logits: Tensor
    spikes: dict[str, LayerSpikes]
    steps: int


class SpikingNetwork(nn.Module):
    """A model whose quantisers have been replaced by neurons, and the time over which it runs.

    Args:
        model: The converted model, in evaluation mode.
        T: Number of time steps.
        coding: ``mean`` or ``sum``; see :class:`snn.neurons.run.Run`.
        execution: ``parallel``: all steps in one call; ``stepwise``: one step at a time, memory flat in T;
            ``collapsed``: the final counts alone, at the cost of one step.
        chunk: Steps per call, instead of what ``execution`` says.

    Raises:
        ConfigError: T < 1, an unknown execution, or one that the neuron cannot do.
    """

    def __init__(
        self, model: nn.Module, T: int, coding: str, execution: str = "parallel", chunk: int | None = None
    ):
        super().__init__()
        if T < 1:
            raise ConfigError(f"T must be at least 1; got {T}")
        self.model, self.T, self.coding = model, int(T), coding
        self.execution, self.chunk = execution, chunk
        first = next(iter(self.neurons.values()), None)
        if first is None:
            raise ConversionError("the model holds no neuron: convert it first (snn.convert)")
        #: The kind of its neurons; all are of one.
        self.kind = type(first)
        check_execution(self.kind, self.T, execution, chunk)
        super().train(False)

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
        record: bool = True,
        observers: tuple[Observer, ...] = (),
        **inputs: Any,
    ) -> SpikingOutput:
        """Run the network on a batch.

        Args:
            execution: Instead of the network's own.
            chunk: Likewise.
            record: Whether to count spikes.
            observers: Told of what every neuron does.
            inputs: Model inputs, ``[B, ...]`` each; ``labels`` are ignored.

        Shape:
            See :class:`SpikingOutput`.
        """
        inputs.pop("labels", None)
        execution = execution or self.execution
        if chunk is None and execution == self.execution:
            chunk = self.chunk
        check_execution(self.kind, self.T, execution, chunk)
        run = Run(self.T, self.coding, collapsed=execution == "collapsed", observers=list(observers))
        recorder = None
        if record:
            recorder = SpikeRecorder({m: place(name) for name, m in self.neurons.items()})
            run.observers.append(recorder)
        quiet = _Quiet()
        if execution == "stepwise" and self.coding == "sum":
            run.observers.append(quiet)
        logits: list[Tensor] = []
        with running(run), valid_positions(inputs.get("attention_mask")):
            for times in self._chunks(execution, chunk):
                run.start_chunk(times)
                quiet.changed = None
                folded = {k: _repeat(v, run.steps) for k, v in inputs.items()}
                logits.extend(unfold(call_model(self.model, folded), run.steps))
                if times.start > 1 and quiet.changed is not None and not bool(quiet.changed):
                    break
        computed = len(logits)
        if execution != "collapsed":
            logits.extend([logits[-1]] * (self.T - computed))
        return SpikingOutput(torch.stack(logits), recorder.layers() if recorder else {}, computed)

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


class _Quiet:
    """Observer: did any count change in this step? One flag on the device, so no layer waits for the host."""

    changed: Tensor | None = None

    def __call__(self, run: Run, event: Event) -> None:
        moved = (event.counts[-1] != event.previous).any()
        self.changed = moved if self.changed is None else self.changed | moved


def _repeat(value: Any, steps: int) -> Any:
    return repeat_over_time(value, steps) if isinstance(value, Tensor) and value.dim() > 0 else value
