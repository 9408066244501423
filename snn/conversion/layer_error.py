"""How far one layer of a spiking network is from the quantised one, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class LayerError:
    """Difference of one layer's aggregates at T: spiking minus quantised. A *level* is what one spike is worth.

    Args:
        name: Dotted name of the neuron.
        elements: Values compared.
        differing: Values off by at least one level, that is by more than half of one.
        off_by_more: Of these, those off by more than one.
        ties: Of the differing, those whose inputs agree within rounding and straddle a border between two
            levels.
        late: Of the differing, those whose count would still change after T.
        carried: Of the differing, those whose inputs differ by more than rounding, because an earlier layer's
            code does.
        unsettled: Values whose count would still change after T if the input stayed as it is.
        margin: Largest distance of a tie from its border, in levels.
        max_error: Largest absolute difference, in units of the activation.
        mean_error: Mean absolute difference, likewise.
        mean_levels: Mean absolute difference, in levels.
        settled_mean: Step after which a count changed no more, on average over the values; of what has not
            settled, T. ``None`` for neurons that have no settled state.
        settled_99: Step after which 99 % of the counts changed no more.
        settled_last: Step after which none did.
    """

    name: str
    elements: int = 0
    differing: int = 0
    off_by_more: int = 0
    ties: int = 0
    late: int = 0
    carried: int = 0
    unsettled: int = 0
    margin: float = 0.0
    max_error: float = 0.0
    mean_error: float = 0.0
    mean_levels: float = 0.0
    settled_mean: float | None = None
    settled_99: int | None = None
    settled_last: int | None = None

    @property
    def off_by_one(self) -> int:
        return self.differing - self.off_by_more

    def to_dict(self) -> dict[str, Any]:
        """Plain types: the fields, with the shares off and unsettled."""
        size = max(self.elements, 1)
        shares = {
            "share_off_by_one": self.off_by_one / size,
            "share_off_by_more": self.off_by_more / size,
            "share_unsettled": self.unsettled / size,
        }
        return {**asdict(self), "off_by_one": self.off_by_one, **shares}
