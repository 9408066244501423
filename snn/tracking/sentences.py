"""A sentence and the spikes of its words, as pages and figures show it; plain numbers and text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SpokenWord:
    """A word and how much its neurons spike.

    Args:
        text: The word.
        rate_per_timestep: Spikes per neuron at each step.
        special: Whether it is one of the tokenizer's own, such as ``[CLS]``.
    """

    text: str
    rate_per_timestep: list[float]
    special: bool = False

    @property
    def rate(self) -> float:
        """Spikes per neuron per time step."""
        return sum(self.rate_per_timestep) / len(self.rate_per_timestep)


@dataclass
class Sentence:
    """One sample of a text data set.

    Args:
        number: Its row in the split, 0-based.
        words: In the order of reading.
        label: Name of its class, or the measurement.
        predictions: What the network says after each step, likewise.
        decision_time: First step from which the prediction stays; ``None`` for a measurement.
        causal: Whether a step's read-out depends on nothing later.
        subtitle: Model, data set, neuron, T.
    """

    number: int
    words: list[SpokenWord]
    label: str
    predictions: list[str]
    decision_time: int | None = None
    causal: bool = True
    subtitle: str = ""

    @property
    def T(self) -> int:
        return len(self.predictions)

    @property
    def prediction(self) -> str:
        """What the network says at T."""
        return self.predictions[-1]

    @property
    def right(self) -> bool | None:
        """Whether that is the label; ``None`` for a measurement."""
        return None if self.decision_time is None else self.prediction == self.label

    @property
    def text(self) -> str:
        """The words that are not the tokenizer's own."""
        return " ".join(word.text for word in self.words if not word.special)

    @property
    def spoken(self) -> list[SpokenWord]:
        """The words that colours are scaled by: without the tokenizer's own, which often spike quite differently,
        unless there are no others."""
        return [word for word in self.words if not word.special] or self.words

    def ranked(self) -> list[SpokenWord]:
        """The words that are not the tokenizer's own, the most active first."""
        return sorted((word for word in self.words if not word.special), key=lambda word: -word.rate)

    def intervals(self, most: int) -> list[tuple[int, int]]:
        """Cut time into at most ``most`` intervals of equal length, given by first and last step; the last may be
        shorter.

        Example:
            >>> Sentence(0, [], "a", ["a"] * 5).intervals(3)
            [(1, 2), (3, 4), (5, 5)]
        """
        length = -(-self.T // most)
        return [(start, min(start + length - 1, self.T)) for start in range(1, self.T + 1, length)]


def rate_between(word: SpokenWord, first: int, last: int) -> float:
    """Spikes per neuron per step from one step to another, both included."""
    return sum(word.rate_per_timestep[first - 1 : last]) / (last - first + 1)
