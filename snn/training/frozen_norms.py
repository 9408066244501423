"""Batch norms that stop following their batches: towards the end a network trains as it will be evaluated."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class FrozenNorms:
    """From some step on, batch norms apply their running statistics in training too; scale and bias learn on.

    Statistics of a batch move what a quantiser gets across its steps, differently in every batch; a network of few
    levels can only learn to use where the steps lie once they stay.

    Args:
        network: With any number of batch norms.
        steps: Optimiser steps of the stage until they freeze.

    Reference:
        Krishnamoorthi, arXiv 1806.08342.
    """

    def __init__(self, network: nn.Module, steps: float):
        self.steps = steps
        self._norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]

    def move_to(self, step: int) -> None:
        """Freeze, if it is time, what :meth:`~torch.nn.Module.train` has set to training."""
        if step >= self.steps:
            for norm in self._norms:
                norm.eval()
