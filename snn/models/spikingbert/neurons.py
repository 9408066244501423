"""The neurons of SpikingBERT: one law for all of them, and what they remember from step to step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snn.functional.integer_products import IntegerProducts
from snn.functional.lif import lif_step
from snn.functional.precision import exact_type
from snn.functional.rates import rate_weight
from snn.functional.surrogate import Surrogate
from snn.functional.time_axis import fold, unfold
from snn.neurons.native import Around, one_step


@dataclass(frozen=True)
class Law:
    """The neuron: ``v = u + I``, ``s = [v >= threshold]``, ``u = leak * (v - threshold * s)``, from ``u = 0``.

    Args:
        threshold: Of all neurons, > 0.
        leak: In (0, 1]; 1 forgets nothing.
        weighted: Whether the rate weighs a spike by ``leak**(T - t)``; else it is the plain mean.
        surrogate: Stands for the derivative of a spike where a gradient runs through time.
        alpha: Its sharpness.
    """

    threshold: float
    leak: float
    weighted: bool
    surrogate: Surrogate = "sigmoid"
    alpha: float = 4.0

    @property
    def decay(self) -> float:
        """Of a spike's weight in the rate, per step."""
        return self.leak if self.weighted else 1.0

    def step(self, drive: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step: spikes, and the membrane before the leak. Without gradients ``membrane`` is overwritten."""
        if not torch.is_grad_enabled():
            return self._step_(drive, membrane)
        tau = torch.inf if self.leak == 1 else 1 / (1 - self.leak)
        return lif_step(
            drive,
            membrane,
            tau,
            threshold=self.threshold,
            reset="soft",
            decay_input=False,
            surrogate=self.surrogate,
            alpha=self.alpha,
        )

    def _step_(self, drive: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor]:
        if membrane is None:
            charged = drive.to(exact_type(drive), copy=True)
        else:
            charged = (membrane if self.leak == 1 else membrane.mul_(self.leak)).add_(drive)
        # Straight into numbers: several times as fast as truth values made into numbers.
        spikes = torch.ge(charged, self.threshold, out=torch.empty_like(charged))
        return spikes.to(drive.dtype), charged.sub_(spikes, alpha=self.threshold)


class Neurons:
    """All neurons of a network: membranes, counts, and decayed sums of spikes where rates are weighted.

    Args:
        law: Of each.
        rows: Samples of the batch.
        around: Runs every layer at every step, see :func:`snn.neurons.native.intercepted`.
        products: Told what they emit, to multiply it as integers; ``None``: nobody does.
    """

    def __init__(self, law: Law, rows: int, around: Around | None, products: IntegerProducts | None = None):
        self.law, self.rows, self.around, self.products = law, rows, around, products
        #: Steps that are over.
        self.step = 0
        self.membranes: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {} if law.weighted else self.counts

    def __call__(self, name: str, drive: Tensor) -> Tensor:
        emitted = []
        for step, current in enumerate(unfold(drive, drive.shape[0] // self.rows), self.step):
            spikes = self._fire(name, current, step)
            emitted.append(spikes)
            if name not in self.counts:
                # Half precision cannot count.
                membrane = self.membranes[name]
                self.counts[name] = torch.zeros_like(membrane)
                self.sums[name] = torch.zeros_like(membrane) if self.law.weighted else self.counts[name]
            add = torch.Tensor.add if torch.is_grad_enabled() else torch.Tensor.add_
            self.counts[name] = add(self.counts[name], spikes)
            if self.law.weighted:
                self.sums[name] = add(self.sums[name] * self.law.decay, spikes)
        output = fold(torch.stack(emitted)) if len(emitted) > 1 else emitted[0]
        if self.products is not None and output.dtype == torch.float32 and self.products.wants(name):
            self.products.emit(name, output, output.to(torch.int8), (), (1.0,))
        return output

    def _fire(self, name: str, current: Tensor, step: int) -> Tensor:
        def fire() -> Tensor:
            spikes, self.membranes[name] = self.law.step(current, self.membranes.get(name))
            return spikes

        if self.around is None:
            return fire()
        with one_step(step):
            return self.around(name, current, fire)

    def select(self, left: Tensor) -> None:
        """Go on with some samples of the batch."""
        self.rows = int(left.sum())
        for state in {id(s): s for s in (self.membranes, self.counts, self.sums)}.values():
            state.update({name: tensor[left] for name, tensor in state.items()})

    def rates(self, steps: int) -> dict[str, Tensor]:
        weight = rate_weight(steps, self.law.decay)
        return {name: total / weight for name, total in self.sums.items()}
