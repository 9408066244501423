"""What verification found: layer by layer, in one sentence, as a table."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, field
from typing import Any

from snn.conversion.agreement import Agreement
from snn.conversion.layer_error import LayerError
from snn.errors import ConversionError


@dataclass
class Limits:
    """What a conversion must keep to, besides what its method promises.

    Args:
        tolerance: Largest logit error allowed where no code differs.
        max_error: Largest logit error allowed at all.
        min_agreement: Least share of predictions that must be equal, in [0, 1].
        require_settled: Whether every count must have settled by T.
    """

    tolerance: float = 0.0
    max_error: float | None = None
    min_agreement: float | None = None
    require_settled: bool = False


@dataclass
class Report:
    """What :func:`snn.verify` found.

    Args:
        layers: One entry per neuron and call, in the order in which they ran.
        logits: The read-outs at T.
        exact: Whether the method promises equality; if not, the figures are its conversion error.
        T: Number of time steps.
        dtype: Arithmetic in which both networks ran.
        limits: What is allowed.
    """

    layers: list[LayerError] = field(default_factory=list)
    logits: Agreement = field(default_factory=Agreement)
    exact: bool = True
    T: int = 0
    dtype: str = "float32"
    limits: Limits = field(default_factory=Limits)

    @property
    def max_error(self) -> float:
        """Largest absolute difference of the logits."""
        return self.logits.max_error

    @property
    def samples(self) -> int:
        return self.logits.samples

    @property
    def same_prediction(self) -> int:
        """Predictions that are equal: one per sample, or per position where each has its own."""
        return self.logits.same

    def total(self, what: str) -> int:
        """Sum over the layers of one of their counts, such as ``differing``."""
        return sum(getattr(layer, what) for layer in self.layers)

    @property
    def elements(self) -> int:
        return self.total("elements")

    @property
    def differing(self) -> int:
        return self.total("differing")

    @property
    def ties(self) -> int:
        return self.total("ties")

    @property
    def unsettled(self) -> int:
        return self.total("unsettled")

    @property
    def settled_last(self) -> int | None:
        """Step after which no count of the network changed; ``None`` if neurons have no settled state."""
        steps = [layer.settled_last for layer in self.layers if layer.settled_last is not None]
        return max(steps, default=None)

    @property
    def first_difference(self) -> str | None:
        """The first layer, in order of execution, with a code that differs."""
        return next((layer.name for layer in self.layers if layer.differing), None)

    @property
    def unexplained(self) -> int:
        """Differing codes that are neither ties nor late, nor have one of these before them."""
        return sum(self.unexplained_by_layer.values())

    @property
    def unexplained_by_layer(self) -> dict[str, int]:
        """The layers that hold such codes, in order, and how many."""
        found, cause = {}, False
        for layer in self.layers:
            cause = cause or layer.ties > 0 or layer.unsettled > 0
            number = layer.differing - layer.ties - layer.late - (layer.carried if cause else 0)
            if number:
                found[layer.name] = number
        return found

    @property
    def failures(self) -> list[str]:
        """What the conversion breaks, of its method's promise and of the limits."""
        limits, found = self.limits, []
        if self.exact and self.unexplained:
            found.append(
                f"{self.unexplained:,} of {self.elements:,} codes differ for no reason of rounding, "
                f"first in {next(iter(self.unexplained_by_layer))}"
            )
        elif self.exact and not self.differing and not self.unsettled and self.max_error > limits.tolerance:
            found.append(
                f"every code is equal, but logits differ by {self.max_error:.2g}, more than {limits.tolerance:.2g}"
            )
        if limits.require_settled and self.unsettled:
            found.append(f"conversion.require_settled: {self._waiting}, so raise T")
        if limits.max_error is not None and self.max_error > limits.max_error:
            found.append(f"the logit error is larger than conversion.max_error={limits.max_error}")
        share = self.logits.share
        if limits.min_agreement is not None and share is not None and share < limits.min_agreement:
            found.append(f"{share:.2%} of predictions equal, conversion.min_agreement={limits.min_agreement}")
        return found

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def verdict(self) -> str:
        """One sentence."""
        off = f"logits differ by at most {self.max_error:.2g}; {self.logits}"
        if not self.passed:
            return f"FAILED: {'; '.join(self.failures)}; {off}"
        first = f"the first difference arises in {self.first_difference}; " if self.differing else ""
        if not self.exact:
            return f"measured, not exact by law: {off}" + (f"; {first.rstrip('; ')}" if first else "")
        if self.unsettled:
            return f"not settled: {self._waiting}, so raise T; {first}{off}"
        settled = f", settled after {self.settled_last} of {self.T} steps" if self.settled_last else ""
        if not self.differing:
            return f"every one of {self.elements:,} codes equal ({self.dtype}){settled}; {self.logits}"
        return (
            f"{self.ties:,} ties within rounding among {self.elements:,} codes ({self.dtype}){settled}, and "
            f"{self.differing - self.ties:,} that follow from them; {first}{off}"
        )

    @property
    def _waiting(self) -> str:
        share = self.unsettled / max(self.elements, 1)
        return f"{share:.2%} of {self.elements:,} counts would still change after T = {self.T}"

    def to_markdown(self) -> str:
        """The table, layer by layer."""
        settling = self.settled_last is not None
        columns = ["layer", "codes", "off by one", "off by more", "mean difference (levels)"]
        columns += ["ties", "late", "carried", "largest margin"] if self.exact else []
        columns += ["unsettled", "settled: mean step", "99 %", "last"] if settling else []
        columns += ["max error", "mean error"]
        lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
        for x in self.layers:
            cells = [f"`{x.name}`", f"{x.elements:,}", _share(x.off_by_one, x), _share(x.off_by_more, x)]
            cells.append(f"{x.mean_levels:.2g}")
            if self.exact:
                cells += [f"{x.ties:,}", f"{x.late:,}", f"{x.carried:,}", f"{x.margin:.1e}"]
            if settling:
                cells += [_share(x.unsettled, x), f"{x.settled_mean:.1f}", f"{x.settled_99}"]
                cells.append(f"{x.settled_last}")
            lines.append("| " + " | ".join([*cells, f"{x.max_error:.1e}", f"{x.mean_error:.1e}"]) + " |")
        cells = [
            "**logits**",
            *[""] * (len(columns) - 3),
            f"{self.max_error:.1e}",
            f"{self.logits.mean_error:.1e}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
        return f"{self.verdict[0].upper()}{self.verdict[1:]}.\n\n" + "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """One line per layer."""
        rows = [layer.to_dict() for layer in self.layers]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "exact": self.exact,
            "T": self.T,
            "dtype": self.dtype,
            "tolerance": self.limits.tolerance if self.exact else None,
            "limits": asdict(self.limits),
            "max_error": self.max_error,
            "mean_error": self.logits.mean_error,
            "logits": {"max_error": self.max_error, "mean_error": self.logits.mean_error},
            **{
                name: self.total(name)
                for name in ("elements", "differing", "off_by_more", "ties", "unsettled")
            },
            "unexplained": self.unexplained,
            "first_difference": self.first_difference,
            "settled_last": self.settled_last,
            "samples": self.samples,
            "predictions": self.logits.predictions,
            "same_prediction": self.same_prediction,
            "layers": [layer.to_dict() for layer in self.layers],
        }

    def raise_for_tolerance(self) -> None:
        """Raise unless the network is what its method promises, within the limits.

        Raises:
            ConversionError: With the verdict.
        """
        if not self.passed:
            raise ConversionError(f"verification: {self.verdict}")


def _share(number: int, layer: LayerError) -> str:
    if not number:
        return "0"
    share = number / layer.elements
    return f"{share:.2%}" if share >= 5e-5 else f"{number:,}"
