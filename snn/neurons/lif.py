"""Integrate and fire: with a leak, with a leak whose time constant is trained, and without."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snn.functional.lif import Reset, lif, lif_step
from snn.functional.surrogate import Surrogate
from snn.neurons.native import NativeNeuron


class LIF(NativeNeuron):
    """``h[t] = v[t-1] + (x[t] - v[t-1]) / tau``, a spike where ``h[t] >= threshold``, then reset.

    See :func:`snn.functional.lif` for the arguments.

    Example:
        >>> LIF()(torch.tensor([[2.0], [1.0], [1.0]])).flatten()
        tensor([1., 0., 0.])
    """

    name: ClassVar[str] = "lif"

    def __init__(
        self,
        threshold: float = 1.0,
        tau: float = 2.0,
        reset: Reset = "hard",
        detach_reset: bool = True,
        decay_input: bool = True,
        surrogate: Surrogate = "sigmoid",
        alpha: float = 4.0,
        detach_membrane: bool = False,
        initial: float = 0.0,
    ):
        super().__init__()
        self.options: dict[str, Any] = {
            "threshold": threshold,
            "reset": reset,
            "detach_reset": detach_reset,
            "decay_input": decay_input,
            "surrogate": surrogate,
            "alpha": alpha,
            "detach_membrane": detach_membrane,
            "initial": initial,
        }
        lif_step(torch.zeros(()), None, tau, **self.options)  # refuses what cannot work
        self.first_tau = tau
        self.prepare_tau()

    def prepare_tau(self) -> None:
        """Make what :attr:`tau` needs."""

    @property
    def tau(self) -> float | Tensor:
        """Time constant, in steps."""
        return self.first_tau

    def forward(self, current: Tensor) -> Tensor:
        return lif(current, self.tau, **self.options)

    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return lif_step(current, state, self.tau, **self.options)

    def extra_repr(self) -> str:
        return f"threshold={self.options['threshold']}, tau={self.first_tau}"


class PLIF(LIF):
    """LIF whose time constant is trained: ``1/tau = sigmoid(weight)``, one weight per layer.

    ``tau`` is the time constant at the start, > 1.

    Reference:
        Fang et al., ICCV 2021.
    """

    name: ClassVar[str] = "plif"

    def prepare_tau(self) -> None:
        if not 1 < self.first_tau < math.inf:
            raise ValueError(
                f"tau must be greater than 1 and finite, to be trained from; got {self.first_tau}"
            )
        self.weight = nn.Parameter(torch.tensor(-math.log(self.first_tau - 1)))

    @property
    def tau(self) -> Tensor:
        return 1 + torch.exp(-self.weight)


class NativeIntegrateFire(LIF):
    """``h[t] = v[t-1] + x[t]``, no leak; the same spikes as the neuron that QCFS is converted to.

    Args:
        threshold: See :func:`snn.functional.lif`, as for the others.
        initial: Membrane at the start, in thresholds. Directly trained networks mostly take 0.
        reset: Directly trained networks mostly take ``hard``.

    Example:
        >>> NativeIntegrateFire()(torch.full((4, 1), 0.5)).flatten()
        tensor([1., 0., 1., 0.])
    """

    name: ClassVar[str] = "integrate_fire"

    def __init__(
        self,
        threshold: float = 1.0,
        initial: float = 0.5,
        reset: Reset = "soft",
        detach_reset: bool = True,
        surrogate: Surrogate = "sigmoid",
        alpha: float = 4.0,
        detach_membrane: bool = False,
    ):
        decay_input = False
        super().__init__(
            threshold, math.inf, reset, detach_reset, decay_input, surrogate, alpha, detach_membrane, initial
        )
