"""SpikingBERT over time: spikes in, rates out, with memory that does not depend on the number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from snn.functional.integer_products import IntegerProducts, integers_pay
from snn.functional.rates import rate_weight
from snn.functional.time_axis import repeat_over_time, unfold
from snn.models.spikingbert.layers import Fire, Noise
from snn.models.spikingbert.neurons import Law, Neurons
from snn.neurons.native import Around, one_step
from snn.neurons.simulated import Samples, of_samples

#: Drive of the first neurons, mask, neurons, noise → what every tap emitted, and the attention scores.
Encode = Callable[[Tensor, Tensor, Fire, Noise], tuple[list[Tensor], list[Tensor]]]


@dataclass(frozen=True)
class Stopping:
    """When a sample may stop before the last step: once its rates have converged.

    Args:
        tolerance: Mean absolute change of a tap's rates from one check to the next, largest tap, padding
            excluded; None: never.
        every: Steps between two checks, which are the only times that the host waits for the device.
    """

    tolerance: float | None = None
    every: int = 10


@dataclass(frozen=True)
class Simulation:
    """What the neurons did.

    Args:
        counts: Layer of neurons → spikes of each neuron, ``[B, S, width]``.
        rates: The same as rates, in [0, 1]: by the plain or the weighted mean.
        steps: Steps that each sample ran, ``[B]``.
        scores: Mean over the steps of the attention scores of every encoder layer, ``[B, heads, S, S]``.
        first: Rates of the last layer at the first token after every step, ``[T, B, width]`` (a sample that stopped
            stays where it was); None unless asked for.
    """

    counts: dict[str, Tensor]
    rates: dict[str, Tensor]
    steps: Tensor
    scores: list[Tensor]
    first: Tensor | None = None


def simulate(
    encode: Encode,
    drive: Tensor,
    mask: Tensor,
    real: Tensor,
    noise: Noise,
    law: Law,
    T: int,
    taps: Sequence[str],
    chunk: int = 1,
    feedback: Callable[[Tensor], Tensor] | None = None,
    stopping: Stopping = Stopping(),
    over_time: bool = False,
    around: Around | None = None,
    integer: bool = False,
) -> Simulation:
    """Run up to ``T`` steps.

    Within a step the layers follow one another without delay. Without feedback, several steps of one layer can thus
    be computed before the next layer's, as more rows of the batch: the spikes are the same.

    Args:
        encode: The network, as a function of what its neurons do.
        drive: Of the first neurons, the same at every step, ``[B, S, width]``.
        mask: Added to attention scores, ``[B, 1, 1, S]``.
        real: 1 for a token and 0 for padding, ``[B, S]``.
        noise: Dropout.
        law: The neuron.
        T: Most steps.
        taps: Layers of neurons whose rates are read.
        chunk: Steps that are run at once; memory is proportional to it. With feedback it is 1.
        feedback: From the last layer's spikes to a current that is added to ``drive`` one step later.
        stopping: Whether samples may leave before.
        over_time: Whether to keep the first token's rates after every step.
        around: Runs every layer at every step, see :func:`snn.neurons.native.intercepted`.
        integer: Whether to multiply spikes as integers where that is faster.
    """
    products = integer_products(drive, T) if integer else None
    neurons = Neurons(law, drive.shape[0], around, products)
    run = _Run(neurons, noise, drive, mask, real, T if over_time else None)
    with products or nullcontext():
        while run.step < T and len(run.rows):
            steps = min(1 if feedback is not None else chunk, T - run.step)
            if stopping.tolerance is not None:
                steps = min(steps, stopping.every - run.step % stopping.every)
            with one_step(run.step), of_samples(run.samples):
                current = run.drive
                if feedback is not None and run.last is not None:
                    current = current + feedback(run.last)
                emitted, scores = encode(repeat_over_time(current, steps), run.mask, run.neurons, noise)
            run.advance(steps, unfold(emitted[-1], steps), [unfold(score, steps).sum(0) for score in scores])
            if stopping.tolerance is not None and run.step % stopping.every == 0 and run.step < T:
                run.release(taps, stopping.tolerance)
    if len(run.rows):
        run.keep(slice(None))
    return run.result()


#: Rows of spikes from which on it is worth to split the weights for one simulation.
_MANY_ROWS = 4096


def integer_products(drive: Tensor, T: int) -> IntegerProducts | None:
    """What multiplies spikes as integers, where that is faster; weights may change from one simulation to the next."""
    many = T * drive.shape[0] * drive.shape[1] >= _MANY_ROWS
    return IntegerProducts() if many and integers_pay(drive.device) else None


class _Run:
    """A simulation under way: the samples that are still running, and the results of those that are not."""

    def __init__(
        self, neurons: Neurons, noise: Noise, drive: Tensor, mask: Tensor, real: Tensor, remember: int | None
    ):
        self.neurons, self.noise = neurons, noise
        self.remember = remember
        self.drive, self.mask, self.real = drive, mask, real
        self.rows = torch.arange(drive.shape[0], device=drive.device)
        #: The same, for whoever looks on; copies nothing as long as all are there.
        self.samples: Samples = slice(None)
        self.step = 0
        self.last: Tensor | None = None
        self.scores: list[Tensor] = []
        self.first: list[Tensor] | None = None if remember is None else []
        self.first_sum: Tensor | None = None
        self.checked: list[Tensor] | None = None
        self.parts: list[tuple[Tensor, Simulation]] = []

    def advance(self, steps: int, spikes: Tensor, scores: list[Tensor]) -> None:
        """Take in what some steps brought: the last layer's spikes ``[steps, B, S, width]``, summed scores."""
        self.scores = [a + b for a, b in zip(self.scores, scores)] if self.scores else scores
        self.last = spikes[-1]
        decay = self.neurons.law.decay
        if self.first is not None:
            for now, emitted in enumerate(spikes[:, :, 0], self.step + 1):
                self.first_sum = emitted if self.first_sum is None else self.first_sum * decay + emitted
                self.first.append(self.first_sum / rate_weight(now, decay))
        self.step += steps
        self.neurons.step = self.step

    def release(self, taps: Sequence[str], tolerance: float) -> None:
        """Let the samples go whose rates at the taps have changed little since the last check."""
        rates = self.neurons.rates(self.step)
        now = [rates[name] for name in taps]
        if self.checked is not None:
            changes = [((a - b).abs().mean(-1) * self.real).sum(1) for a, b in zip(now, self.checked)]
            done = torch.stack(changes).amax(0) <= tolerance * self.real.sum(1)
            if bool(done.any()):
                self.keep(done)
                self.drop(~done)
                now = [rate[~done] for rate in now]
        self.checked = now

    def keep(self, done: Tensor | slice) -> None:
        """Put some samples, as they are now, to the results."""
        result = Simulation(
            {name: count[done] for name, count in self.neurons.counts.items()},
            {name: rate[done] for name, rate in self.neurons.rates(self.step).items()},
            torch.full_like(self.rows[done], self.step),
            [score[done] / self.step for score in self.scores],
            self._first_of(done),
        )
        self.parts.append((self.rows[done], result))

    def _first_of(self, done: Tensor | slice) -> Tensor | None:
        if self.first is None or self.remember is None:
            return None
        rates = torch.stack(self.first)[:, done]
        return torch.cat([rates, rates[-1:].expand(self.remember - len(rates), -1, -1)])

    def drop(self, left: Tensor) -> None:
        """Go on with the samples that are left."""
        self.rows, self.drive, self.mask, self.real = (
            tensor[left] for tensor in (self.rows, self.drive, self.mask, self.real)
        )
        self.samples = self.rows
        self.neurons.select(left)
        self.noise.select(left)
        self.scores = [score[left] for score in self.scores]
        self.last = None if self.last is None else self.last[left]
        self.first_sum = None if self.first_sum is None else self.first_sum[left]
        self.first = None if self.first is None else [rate[left] for rate in self.first]

    def result(self) -> Simulation:
        """All samples, in their order."""
        if len(self.parts) == 1:
            return self.parts[0][1]
        order = torch.cat([rows for rows, _ in self.parts]).argsort()
        parts = [part for _, part in self.parts]

        def join(tensors: list[Tensor]) -> Tensor:
            return torch.cat(tensors)[order]

        firsts = [part.first for part in parts if part.first is not None]
        return Simulation(
            {name: join([part.counts[name] for part in parts]) for name in parts[0].counts},
            {name: join([part.rates[name] for part in parts]) for name in parts[0].rates},
            join([part.steps for part in parts]),
            [join(list(scores)) for scores in zip(*(part.scores for part in parts))],
            torch.cat(firsts, 1)[:, order] if firsts else None,
        )
