"""How shift and height follow from paired inputs: what each rule does with a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from snn.conversion.training_free.pairs import Pairs
from snn.functional.quantize import codes
from snn.quantizers.base import Quantizer
from snn.quantizers.da_qcfs import DAQCFS


def emitted(quantizer: Quantizer, got: Tensor) -> Tensor:
    """Output for rows ``[rows, C]``, as a share of the height: in 0..1, or -1..1 where codes are signed."""
    step, shift = quantizer.step_for(quantizer.positive_threshold().detach()), quantizer.corrections()[0]
    return codes(got if shift is None else got + shift, step, *quantizer.bounds) / quantizer.levels


class Rule(ABC):
    """Corrects one quantiser, batch by batch.

    The shift always goes to the mean gap between what is wanted and what arrives, measured before the shift
    is added. Rules differ in how they average it, and in what the height is to bring about.

    Args:
        quantizer: Changed in place.
        decay: Share of the past that ``leaky`` keeps at each batch, in [0, 1).
        rate: Step of ``integral``, in (0, 1].
    """

    name: ClassVar[str]

    def __init__(self, quantizer: DAQCFS, decay: float = 0.99, rate: float = 0.5):
        self.quantizer, self.decay, self.rate = quantizer, decay, rate
        self.batches = 0

    def update(self, pairs: Pairs) -> None:
        """Take one more batch into account."""
        self.update_shift(pairs)
        self.update_height(pairs)

    def update_shift(self, pairs: Pairs) -> None:
        self.batches += 1
        self.quantizer.correct(self.shift((pairs.wanted - pairs.got).mean(0)), self.quantizer.height)

    def update_height(self, pairs: Pairs) -> None:
        height = self.height(pairs.target, emitted(self.quantizer, pairs.got))
        self.quantizer.correct(self.quantizer.shift, height)

    def fit(self, parts: list[Pairs]) -> None:
        """Take all batches into account, with nothing changing around this quantiser meanwhile."""
        for pairs in parts:
            self.update(pairs)

    @abstractmethod
    def shift(self, gap: Tensor) -> Tensor:
        """The new shift, from this batch's mean gap."""

    @abstractmethod
    def height(self, target: Tensor, emitted: Tensor) -> Tensor:
        """The new height, from the wanted output and the present one as a share of the height."""


class Leaky(Rule):
    """As released: both are leaky averages from 0, and the height's error is what is left after correcting it.

    So n batches bring the shift to ``1 - decay^n`` of the gap, and the height stays close to where it was: its
    fixed point removes a share ``E[s]/(1 + E[s])`` of the error, s being the output as a share of the height.

    Reference:
        Hao et al., ICML 2025.
    """

    name: ClassVar[str] = "leaky"

    def shift(self, gap: Tensor) -> Tensor:
        return self.decay * self.quantizer.shift + (1 - self.decay) * gap

    def height(self, target: Tensor, emitted: Tensor) -> Tensor:
        threshold, height = self.quantizer.positive_threshold(), self.quantizer.height
        error = (target - emitted * height).mean(0)
        return threshold + self.decay * (height - threshold) + (1 - self.decay) * error


class Integral(Rule):
    """The shift is the mean over all batches; the height moves on until no mean error is left."""

    name: ClassVar[str] = "integral"

    def shift(self, gap: Tensor) -> Tensor:
        return self.quantizer.shift + (gap - self.quantizer.shift) / self.batches

    def height(self, target: Tensor, emitted: Tensor) -> Tensor:
        height = self.quantizer.height
        return height + self.rate * (target - emitted * height).mean(0)


class _Accumulated(Rule):
    """Rules that solve for shift and height from sums over everything seen so far."""

    def __init__(self, quantizer: DAQCFS, decay: float = 0.99, rate: float = 0.5):
        super().__init__(quantizer, decay, rate)
        self.sums: dict[str, Tensor] = {}

    def fit(self, parts: list[Pairs]) -> None:
        # At once: each height then belongs to the final shift.
        self.update(Pairs.join(parts))

    def shift(self, gap: Tensor) -> Tensor:
        return self.add("gap", gap) / self.batches

    def add(self, name: str, value: Tensor) -> Tensor:
        self.sums[name] = total = self.sums.get(name, torch.zeros_like(value)) + value
        return total

    def ratio(self, wanted: Tensor, present: Tensor) -> Tensor:
        """The height for which both agree; where nothing is emitted, there is nothing to correct."""
        ratio = wanted / present.clamp_min(1e-12)
        return torch.where((present > 1e-9) & (wanted > 0), ratio, self.quantizer.height)


class ClosedForm(_Accumulated):
    """The height that makes the mean output right; of signed outputs, the mean magnitude."""

    name: ClassVar[str] = "closed_form"

    def height(self, target: Tensor, emitted: Tensor) -> Tensor:
        wanted = self.add("wanted", (target.abs() if self.quantizer.signed else target).mean(0))
        return self.ratio(wanted, self.add("emitted", emitted.abs().mean(0)))


class Spread(_Accumulated):
    """The height that makes the output's standard deviation right; its mean is left to the shifts that follow.

    What least squares would choose is lower, because rounding is noise, and layer after layer the signal
    would fade.
    """

    name: ClassVar[str] = "spread"

    def height(self, target: Tensor, emitted: Tensor) -> Tensor:
        return self.ratio(self._deviation("target", target), self._deviation("emitted", emitted))

    def _deviation(self, name: str, x: Tensor) -> Tensor:
        mean = self.add(f"{name} mean", x.mean(0)) / self.batches
        square = self.add(f"{name} square", x.square().mean(0)) / self.batches
        return (square - mean.square()).clamp_min(0).sqrt()


RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Leaky, Integral, ClosedForm, Spread)}
