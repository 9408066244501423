"""A neuron is a map from a charge trajectory to a spike-count trajectory.

Let ``C_t`` be the charge that has arrived by step t and ``N_t`` the signed number of spikes emitted by step
t. Signals between modules are aggregates ``A_t``: running means (``A_t = C_t/t``) or running sums (``A_t =
C_t``), so that every module between two neurons is the ordinary one. A subclass says how ``N`` follows from
``C``; nothing else.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snn.errors import ConversionError
from snn.functional.integer_products import LARGEST
from snn.functional.padding import current_mask
from snn.functional.precision import exact_type
from snn.functional.quantize import codes
from snn.functional.through_time import straight_through
from snn.functional.time_axis import align, fold, unfold
from snn.neurons.run import Event, Run, current_run
from snn.quantizers.base import Quantizer


class Neuron(nn.Module):
    """Base of the neurons.

    Args:
        threshold: Charge of one spike, > 0; ``[C]`` per channel or ``[1]``.
        axis: Axis of the channels; ``None``: 1 for ``[B, C, H, W]``, -1 otherwise.
        qmin: Least count, or whether negative spikes are possible (< 0) where the number of steps is the
            bound.
        qmax: Greatest count, likewise.
    """

    #: Name in the registry.
    name: ClassVar[str]
    #: Quantisers (registry names) whose neuron this is.
    twins: ClassVar[tuple[str, ...]]
    #: Codings in which the law holds; the first is the default.
    codings: ClassVar[tuple[str, ...]]
    #: Whether spikes depend on the past alone, so that a run may be cut into chunks of time.
    causal: ClassVar[bool]
    #: Whether the aggregate at T equals the quantiser: ``always``, ``settled`` (once no count changes), or
    #: ``never``.
    exact: ClassVar[str]

    threshold: Tensor
    bounds: Tensor
    #: Added to the current of every step, ``[C]`` or ``[1]``; ``None``: nothing.
    shift: Tensor | None
    #: Height of a spike in thresholds, likewise; ``None``: 1.
    gain: Tensor | None

    def __init__(self, threshold: Tensor, axis: int | None, qmin: int, qmax: int):
        super().__init__()
        self.register_buffer("threshold", threshold.detach().clone())
        # Saved with the state; as numbers as well, because asking a device for them would wait for it.
        self.register_buffer("bounds", torch.tensor([qmin, qmax]))
        self.register_buffer("shift", None)
        self.register_buffer("gain", None)
        self.axis, self.qmin, self.qmax = axis, qmin, qmax
        #: Whether the last axis of the input runs over tokens; padding does not count in rates.
        self.over_keys = False

    @classmethod
    def from_quantizer(cls, quantizer: Quantizer, **options: Any) -> Neuron:
        """The neuron whose law is that quantiser's."""
        if quantizer.name not in cls.twins:
            raise ConversionError(
                f"neuron={cls.name} needs quantization={' or '.join(cls.twins)}; got {quantizer.name}"
            )
        if not quantizer.calibrated:
            raise ConversionError(
                f"a {quantizer.name} quantiser has no threshold yet: calibrate first (snn.calibrate)"
            )
        neuron = cls(quantizer.positive_threshold(), quantizer.axis, *quantizer.bounds, **options)
        neuron.over_keys = quantizer.over_keys
        neuron.shift, neuron.gain = (
            None if value is None else value.detach().clone() for value in quantizer.corrections()
        )
        return neuron

    def options(self) -> dict[str, Any]:
        """The arguments that a config may give, for checkpoints; plain types."""
        return {}

    @property
    def signed(self) -> bool:
        return self.qmin < 0

    @property
    def bipolar(self) -> bool:
        """Whether a spike may be -1; a count that is never below 0 may still be taken back."""
        return True

    def counts(self, charge: Tensor, previous: Tensor, run: Run) -> Tensor:
        """Counts at each step of the chunk.

        Args:
            charge: ``C_t / threshold`` at each step; may be overwritten.
            previous: Counts at the end of the chunk before; zeros at the start.
            run: The run in force.

        Shape:
            ``[t, B, ...]`` and ``[B, ...]`` to ``[t, B, ...]``.
        """
        raise ConversionError(f"neuron={self.name} has no law that goes from step to step")

    def final_bounds(self, run: Run) -> tuple[int, int]:
        """Least and greatest count at T, where the count at T follows from the final charge alone."""
        raise ConversionError(f"neuron={self.name} has no collapsed form; use execution=parallel or stepwise")

    def final_count(self, aggregate: Tensor, unit: Tensor, run: Run) -> Tensor:
        """Count at T from the final aggregate alone: the quantiser's own arithmetic.

        Args:
            aggregate: ``A_T``.
            unit: What one spike is worth in it.
            run: The run in force.

        Shape:
            ``[..., B, ...]`` to the same.
        """
        return codes(aggregate, unit, *self.final_bounds(run))

    def forward(self, aggregate: Tensor) -> Tensor:
        run = current_run()
        call = run.enter(self)
        aggregate = aggregate.to(exact_type(aggregate))
        dims = aggregate.dim()
        threshold = self._aligned(self.threshold, aggregate)
        aggregate = self.shifted(aggregate)
        if torch.is_grad_enabled() and (aggregate.requires_grad or threshold.requires_grad):
            return self._trained(aggregate, threshold, call, run)
        if run.collapsed and not run.observers:
            unit = run.final_unit(threshold)
            counts = self.final_count(aggregate, unit, run)
        else:
            over_time, unit = unfold(aggregate, run.steps), run.unit(threshold, dims)
            counts = self._fired(over_time, unit, call, run)
        small = self._small(counts, dims, run)
        # In place, because fresh memory for every layer would cost more than all that observers do.
        output = counts.mul_(unit)
        output = self.heightened(output if output.dim() == dims else fold(output))
        if small is not None and run.products is not None:
            scales = [self.threshold] if self.gain is None else [self.threshold, self.gain]
            run.products.emit(self, output, small.view_as(output), scales, run.units)
        return output

    def _small(self, counts: Tensor, dims: int, run: Run) -> Tensor | None:
        """The counts as small integers, where linear layers may take them so; ``dims``: axes of one step."""
        if run.products is None or counts.dtype != torch.float32 or not run.products.wants(self):
            return None
        over_last = self.threshold.numel() == 1 or self._axis_of(dims) % dims == dims - 1
        greatest = run.T if run.coding == "mean" else max(-self.qmin, self.qmax)
        if greatest > LARGEST or not over_last:
            return None
        return counts.to(torch.int8)

    def _fired(self, over_time: Tensor, unit: Tensor, call: int, run: Run) -> Tensor:
        """Counts at each step of the chunk, ``[t, B, ...]``; observers are told."""
        key = id(self), call
        previous = run.state.get(key)
        if previous is None:
            previous = over_time.new_zeros(()).expand_as(over_time[0])
        mask = current_mask(previous, self.over_keys) if run.observers else None
        parts = list(run.parts(over_time))
        whole = torch.empty_like(over_time) if len(parts) > 1 else None  # in the same layout of memory
        for samples, rows in parts:
            arriving, before = over_time[:, rows], previous[rows]
            there = None if mask is None else mask[rows]
            run.watch(self, call, there, samples)
            counts = self.count_chunk(arriving, unit, before, run)
            run.watched(counts, before)
            if run.observers:
                event = Event(self, call, arriving, unit, counts, before, there, samples, parts[-1][0].stop)
                for observe in run.observers:
                    observe(run, event)
            if whole is not None:
                whole[:, rows] = counts
        counts = counts if whole is None else whole
        if run.times.stop <= run.T:
            run.state[key] = counts[-1].clone()
        return counts

    def _trained(self, aggregate: Tensor, threshold: Tensor, call: int, run: Run) -> Tensor:
        """The same output, with a gradient; all steps at once."""
        over_time = unfold(aggregate, run.steps)
        unit = run.unit(self.scaled(threshold, over_time[0]), aggregate.dim())
        previous = over_time.new_zeros(()).expand_as(over_time[0])
        with torch.no_grad():
            counts = self.count_chunk(over_time, unit, previous, run)
        run.state[id(self), call] = counts[-1]
        return self.heightened(fold(self.with_gradient(counts, over_time / unit, previous, run) * unit))

    def scaled(self, threshold: Tensor, x: Tensor) -> Tensor:
        """The threshold, with the scale that its quantiser puts on its gradient; ``x`` is one step of the input."""
        return threshold

    def with_gradient(self, counts: Tensor, charge: Tensor, previous: Tensor, run: Run) -> Tensor:
        """The counts, differentiable in the charge: the quantiser's gradient, unless the neuron has one of its own.

        Args:
            counts: What the neuron emits.
            charge: See :meth:`counts`.
            previous: See :meth:`counts`.
            run: The run in force.
        """
        return straight_through(charge, counts, *self.final_bounds(run))

    def shifted(self, aggregate: Tensor) -> Tensor:
        """What decides about spikes: the aggregate, and the shift that each step adds to its current."""
        return aggregate if self.shift is None else aggregate + self._aligned(self.shift, aggregate)

    def heightened(self, output: Tensor) -> Tensor:
        """What is emitted for an output in thresholds per spike: spikes may be higher or lower than the threshold."""
        # As the quantiser has it: the level first, then the height, so that both round alike.
        return output if self.gain is None else output * self._aligned(self.gain, output)

    def _aligned(self, value: Tensor, x: Tensor) -> Tensor:
        return align(value, x, self._axis_of(x.dim())).to(x.dtype)

    def _axis_of(self, dims: int) -> int:
        """Axis of the channels of an input with so many."""
        return self.axis if self.axis is not None else (1 if dims == 4 else -1)

    def count_chunk(self, over_time: Tensor, unit: Tensor, previous: Tensor, run: Run) -> Tensor:
        """Counts of the chunk from the aggregates ``[t, B, ...]``; the final count alone in a collapsed run."""
        if run.collapsed:
            return self.final_count(over_time, unit, run)
        return self.counts(over_time / unit, previous, run)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.qmin, self.qmax = self.bounds.tolist()

    def extra_repr(self) -> str:
        return f"channels={self.threshold.numel()}, signed={self.signed}"
