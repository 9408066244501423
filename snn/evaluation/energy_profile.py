"""What the config group ``energy`` may say: constants, and the conventions that decide what is counted."""

from __future__ import annotations

from dataclasses import dataclass

from snn.errors import ConfigError, did_you_mean

FIRST_LAYER = ("every_step", "once")
NON_BINARY = ("events", "macs")
ATTENTION = ("running_sums", "running_sums_overlap", "one_factor")
_CONSTANTS = ("mac", "ac", "membrane", "analog", "mac_memory", "ac_memory", "membrane_memory")


@dataclass
class EnergyProfile:
    """Energy of single operations, in picojoules, and conventions.

    Attributes:
        name: Of the profile.
        source: Where constants and conventions are from.
        mac: A multiply-accumulate, 32-bit floating point.
        ac: An accumulate, likewise.
        membrane: Updating one neuron for one step; 0 leaves it out.
        analog: Multiply-accumulates per value of a LayerNorm, softmax or GELU; 0 leaves them out.
        mac_memory: Memory traffic of a multiply-accumulate: weight and activation.
        ac_memory: Of an accumulate: weight, and the membrane to and fro.
        membrane_memory: Of updating one neuron.
        first_layer: Products of the network's own input, where it is given at every step: ``every_step``, or
            ``once``, since it does not change.
        non_binary: Products whose factor is a sum of several neurons' spikes (residual sums, averages):
            ``events``: every spike is accumulated by itself; ``macs``: a dense product of every step.
        attention: Products of two signals of spikes: ``running_sums``: each spike is added once for every
            value of the other signal's running sum that it meets (``Q_t k_t + q_t K_(t-1)``);
            ``running_sums_overlap``: as published for SpikeZIP-TF, ``Q_t k_t + q_t K_t - q_t k_t``, where
            the overlap costs what the sparser signal costs; ``one_factor``: the present spikes alone are
            multiplied, at what the sparser of them costs.
        zero_skipping: Whether a neuron that does not fire costs nothing; otherwise every value of every step
            is accumulated.
    """

    name: str | None = None
    source: str = ""
    mac: float | None = None
    ac: float | None = None
    membrane: float | None = None
    analog: float | None = None
    mac_memory: float | None = None
    ac_memory: float | None = None
    membrane_memory: float | None = None
    first_layer: str = "every_step"
    non_binary: str = "events"
    attention: str = "running_sums"
    zero_skipping: bool = True

    def check(self) -> None:
        """Refuse what no energy follows from.

        Raises:
            ConfigError: A constant that is missing or negative, or an unknown convention.
        """
        for key in _CONSTANTS:
            value = getattr(self, key)
            if value is None:
                raise ConfigError(
                    f"energy.{key}: the profile {self.name or 'that is given'} has no such constant; give it in "
                    "picojoules (analog: in multiply-accumulates per value), 0 to leave it out"
                )
            needed = key in ("mac", "ac")
            if value < 0 or (needed and value == 0):
                raise ConfigError(
                    f"energy.{key} must be {'positive' if needed else 'at least 0'}; got {value}"
                )
        choices = {"first_layer": FIRST_LAYER, "non_binary": NON_BINARY, "attention": ATTENTION}
        for key, known in choices.items():
            if getattr(self, key) not in known:
                value = str(getattr(self, key))
                raise ConfigError(f"energy.{key}: unknown name {value!r}; {did_you_mean(value, known)}")

    def number(self, key: str) -> float:
        """A constant that :meth:`check` has found there."""
        value = getattr(self, key)
        assert value is not None
        return float(value)
