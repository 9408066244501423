"""Which neurons can be executed in which way, and fed how: asked by configs before any work, and by networks."""

from __future__ import annotations

from snn.errors import ConfigError, did_you_mean
from snn.neurons.base import Neuron

EXECUTIONS = ("parallel", "stepwise", "collapsed")


def check_execution(kind: type[Neuron], T: int | None, execution: str, chunk: int | None) -> None:
    """Refuse an execution that a neuron cannot do.

    Args:
        kind: Class of the neuron.
        T: Number of time steps; ``None``: not known yet.
        execution: ``parallel``, ``stepwise`` or ``collapsed``.
        chunk: Steps per call, instead of what ``execution`` says.

    Raises:
        ConfigError: Names the neuron and what would work.
    """
    if execution not in EXECUTIONS:
        raise ConfigError(f"execution: unknown name {execution!r}; {did_you_mean(execution, EXECUTIONS)}")
    if chunk is not None and chunk < 1:
        raise ConfigError(f"execution.chunk must be at least 1; got {chunk}")
    cut = execution == "stepwise" or (chunk is not None and (T is None or chunk < T))
    if cut and T != 1 and execution != "collapsed" and not kind.causal:
        asked = execution if chunk is None else f"execution.chunk={chunk}"
        raise ConfigError(
            f"neuron={kind.name} needs all T steps at once; use execution=parallel or collapsed, not {asked}"
        )
    if execution == "collapsed" and kind.exact == "never":
        raise ConfigError(f"neuron={kind.name} has no collapsed form; use execution=parallel or stepwise")


def check_spread(spread: int, coding: str, T: int | None) -> None:
    """Refuse to spread the input over steps where that cannot be done.

    Args:
        spread: Steps over which inputs and biases are given.
        coding: ``mean`` or ``sum``.
        T: Number of time steps; ``None``: not known yet.

    Raises:
        ConfigError: Names the key and what would work.
    """
    if isinstance(spread, bool) or not isinstance(spread, int) or spread < 1:
        raise ConfigError(f"neuron.spread must be a whole number of steps, at least 1; got {spread!r}")
    if spread > 1 and coding != "sum":
        raise ConfigError(
            f"neuron.spread={spread} needs coding sum (neuron=st_bif); under coding {coding} the whole input is "
            "given at every step"
        )
    if T is not None and spread > T:
        raise ConfigError(
            f"neuron.spread={spread} needs T of at least {spread} for the whole input to arrive; got T={T}"
        )
