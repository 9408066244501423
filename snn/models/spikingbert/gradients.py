"""Where the gradient of a spiking network comes from.

Its values are rates measured from spikes; its gradient, unless it runs through time, is that of an analog network of
the same weights, whose neurons are ``clamp(drive / threshold, 0, 1)`` and which is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor

from snn.functional.equilibrium import implicit_gradient
from snn.functional.rates import clamped_rate, replace_value
from snn.models.spikingbert.layers import Noise
from snn.models.spikingbert.simulation import Simulation

if TYPE_CHECKING:
    from snn.models.spikingbert.model import SpikingBert

GradientMode = Literal["replace", "measured", "implicit", "bptt"]
GRADIENT_MODES: tuple[GradientMode, ...] = get_args(GradientMode)

#: Network, its simulation, drive of the first neurons, mask, dropout → taps and scores that carry a gradient.
Rule = Callable[["SpikingBert", Simulation, Tensor, Tensor, Noise], tuple[list[Tensor], list[Tensor]]]


def replaced(
    network: SpikingBert, simulation: Simulation, drive: Tensor, mask: Tensor, noise: Noise
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradient of the analog network at its own activations; the measured rates replace values at the taps only.

    Feedback, where there is any, comes from the measured rates, and the gradient does not follow it further: the
    first term of the implicit one.
    """
    last = simulation.rates[network.taps[-1]]
    return _carried(network, simulation, network.fed_back(drive, last), mask, noise)


def measured(
    network: SpikingBert, simulation: Simulation, drive: Tensor, mask: Tensor, noise: Noise
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradient of the analog network at the measured rates: they replace the value behind every layer of neurons."""

    def fire(name: str, current: Tensor) -> Tensor:
        return replace_value(simulation.rates[name], clamped_rate(current, network.law.threshold))

    last = simulation.rates[network.taps[-1]]
    return network.encode(network.fed_back(drive, last), mask, fire, noise)


def implicit(
    network: SpikingBert, simulation: Simulation, drive: Tensor, mask: Tensor, noise: Noise
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradient of the analog network's equilibrium under feedback, at the measured rates of the last layer.

    All taps are functions of what is fed back, so one linear system gives the gradient of any loss on them. Without
    feedback the system is ``x = g``, and this is :func:`replaced`.
    """
    if network.feedback is None:
        return replaced(network, simulation, drive, mask, noise)
    # The map that is solved and the one that is read have to be the same.
    noise = Noise(noise.training, shared=True)

    def once(last: Tensor) -> Tensor:
        return network.encode(network.fed_back(drive, last), mask, network.analog, noise)[0][-1]

    last = implicit_gradient(once, simulation.rates[network.taps[-1]], network.solver, network.last.backward)
    return _carried(network, simulation, network.fed_back(drive, last), mask, noise)


def _carried(
    network: SpikingBert, simulation: Simulation, drive: Tensor, mask: Tensor, noise: Noise
) -> tuple[list[Tensor], list[Tensor]]:
    taps, scores = network.encode(drive, mask, network.analog, noise)
    return [replace_value(simulation.rates[name], tap) for name, tap in zip(network.taps, taps)], scores


RULES: dict[str, Rule] = {"replace": replaced, "measured": measured, "implicit": implicit}
