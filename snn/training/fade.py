"""Quantisers that fade in: a network is clipped at first, and rounded more and more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.quantize import quantizers
from snn.quantizers.base import Quantizer


class Fade:
    """While its quantisers fade in, a network in training computes ``(1 - s) * clipped + s * quantised`` at each.

    The strength ``s`` rises from 0 to 1 in a straight line. In evaluation mode quantisers always quantise in full, so
    validation judges the network that is wanted.

    Args:
        network: With quantisers that have thresholds, or start in training.
        steps: Optimiser steps until they quantise in full; 0: from the start.
    """

    def __init__(self, network: nn.Module, steps: float):
        self.steps, self.strength = steps, 0.0
        found = quantizers(network).values() if steps else ()
        self._hooks = [quantizer.register_forward_hook(self._blend) for quantizer in found]

    def move_to(self, step: int) -> None:
        """Set the strength for what comes after so many optimiser steps."""
        if step < self.steps:
            self.strength = step / self.steps
        else:
            self.stop()

    def stop(self) -> None:
        """Leave the network as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _blend(self, quantizer: Quantizer, inputs: tuple[Any, ...], quantised: Tensor) -> Tensor:
        if not quantizer.training or quantizer.observing:
            return quantised
        return torch.lerp(quantizer.clip(inputs[0]), quantised, self.strength)
