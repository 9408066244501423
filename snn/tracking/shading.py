"""Colours for rates: from white to the blue of all figures, the same in pages and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from snn.tracking.style import BLUE


@dataclass(frozen=True)
class Shading:
    """A scale of rates.

    Args:
        low: Drawn white.
        high: Drawn in full colour.

    Example:
        >>> scale = Shading(0.0, 0.5)
        >>> scale.colour(0.0), scale.colour(0.5)
        ('#ffffff', '#0072b2')
    """

    low: float
    high: float

    @classmethod
    def of(cls, rates: Iterable[float]) -> Shading:
        """The scale from the least to the greatest of some rates; 0 to 1 if there are none."""
        known = list(rates) or [0.0, 1.0]
        return cls(min(known), max(known))

    def share(self, rate: float) -> float:
        """Where a rate stands on the scale, in [0, 1]; rates that are all equal stand at 0."""
        length = self.high - self.low
        return min(max((rate - self.low) / length, 0.0), 1.0) if length > 0 else 0.0

    def colour(self, rate: float) -> str:
        """``#rrggbb``."""
        full = [int(BLUE[i : i + 2], 16) for i in (1, 3, 5)]
        share = self.share(rate)
        return "#" + "".join(f"{round(255 + share * (part - 255)):02x}" for part in full)

    def ink(self, rate: float) -> str:
        """The colour of text that is read best on it."""
        return "#ffffff" if self.share(rate) > 0.9 else "#111111"
