"""Neurons of networks that spike by themselves: current of every step in, spikes of every step out.

A network that is trained as a spiking one has no quantised twin, and its signals are the spikes themselves,
``[T, B, ...]``. These neurons see all steps of a window at once and keep nothing between two calls, so that
there is no state to be reset.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from snn.errors import ConfigError, did_you_mean
from snn.neurons.registry import NATIVE_NEURONS
from snn.neurons.simulated import SimulatedNetwork
from snn.registry import accepted

#: The only step that is being computed, counted from 0; None: all of them at once.
_step: ContextVar[int | None] = ContextVar("step", default=None)


class NativeNeuron(nn.Module, ABC):
    """Base of the native neurons; a spike has height 1, whatever the threshold."""

    #: Name in the registry.
    name: ClassVar[str]
    #: Whether spikes depend on the past alone.
    causal: ClassVar[bool] = True

    @abstractmethod
    def forward(self, current: Tensor) -> Tensor:
        """Spikes of the whole window.

        Shape:
            ``[T, B, ...]`` to ``[T, B, ...]`` with values in {0, 1}, in the dtype of ``current``.
        """

    @abstractmethod
    def step(self, current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Spikes of one step, for layers in which a step's input depends on the step before.

        Args:
            current: Input of the step.
            state: What the step before returned; None at the first.

        Shape:
            ``[B, ...]`` to spikes ``[B, ...]`` and the state.
        """


class NeuronFactory(Protocol):
    """Makes the neurons of a network, all of one kind."""

    def __call__(self, threshold: float | None = None) -> NativeNeuron:
        """A new neuron, with another threshold than the others' where one is given."""


def neuron_factory(neuron: str | Mapping[str, Any]) -> NeuronFactory:
    """What builds each neuron of a network from the config group ``neuron``.

    Args:
        neuron: A registered name, or a mapping with ``name`` and the neuron's options; None stands for «not
            given».

    Raises:
        ConfigError: An unknown name or option, or a value that cannot work.

    Example:
        >>> spiking = neuron_factory({"name": "lif", "tau": 4.0})
        >>> spiking()
        LIF(threshold=1.0, tau=4.0)
        >>> spiking(threshold=0.5)
        LIF(threshold=0.5, tau=4.0)
    """
    given = {"name": neuron} if isinstance(neuron, str) else dict(neuron)
    options = {key: value for key, value in given.items() if value is not None}
    name = options.pop("name", None)
    if name is None:
        raise ConfigError(f"neuron.name: expected one of {', '.join(NATIVE_NEURONS.names())}, got None")
    kind: type[NativeNeuron] = NATIVE_NEURONS.get(name)
    known = accepted(kind)
    for key in options:
        if key not in known:
            raise ConfigError(
                f"neuron.{key}: neuron={name} takes no such argument in a network that spikes by itself; "
                f"{did_you_mean(key, known)}"
            )

    def make(threshold: float | None = None) -> NativeNeuron:
        return kind(**options if threshold is None else {**options, "threshold": threshold})

    try:
        make()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"neuron={name}: {error}") from None
    return make


@contextmanager
def one_step(step: int) -> Iterator[None]:
    """Declare that what is computed inside belongs to one step of time.

    Layers in which a step's input depends on the step before go through time in a loop. Whoever counts spikes and
    operations has to know at which step they happen.

    Args:
        step: Counted from 0.
    """
    token = _step.set(step)
    try:
        yield
    finally:
        _step.reset(token)


def present_step() -> int | None:
    """The step that :func:`one_step` has declared; None: all steps are computed at once."""
    return _step.get()


#: Gets a neuron's name, its current, and what computes the spikes; gives the spikes that the network goes on with.
Around = Callable[[str, Tensor, Callable[[], Tensor]], Tensor]


@contextmanager
def intercepted(model: nn.Module, around: Around) -> Iterator[None]:
    """Let ``around`` run every call of every native neuron of a network, whole windows and single steps alike.

    Of a network that simulates its neurons itself it runs every layer at every step.

    Args:
        model: The network; as before when the block ends.
        around: See :data:`Around`.
    """
    neurons = {name: m for name, m in model.named_modules() if isinstance(m, NativeNeuron)}
    simulated = [m for m in model.modules() if isinstance(m, SimulatedNetwork)]
    for network in simulated:
        network.around = around
    for name, neuron in neurons.items():
        vars(neuron).update(forward=_window(name, neuron, around), step=_single(name, neuron, around))
    try:
        yield
    finally:
        for neuron in neurons.values():
            del vars(neuron)["forward"], vars(neuron)["step"]
        for network in simulated:
            del network.around


def _window(name: str, neuron: NativeNeuron, around: Around) -> Callable[[Tensor], Tensor]:
    fire = neuron.forward
    return lambda current: around(name, current, lambda: fire(current))


def _single(name: str, neuron: NativeNeuron, around: Around) -> Callable[..., tuple[Tensor, Tensor | None]]:
    original = neuron.step

    def step(current: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        left: list[Tensor | None] = []

        def fire() -> Tensor:
            # A neuron may compute a step by its own forward, which is not to be seen as another call.
            window = vars(neuron).pop("forward")
            try:
                spikes, after = original(current, state)
            finally:
                vars(neuron)["forward"] = window
            left.append(after)
            return spikes

        return around(name, current, fire), left[0]

    return step
