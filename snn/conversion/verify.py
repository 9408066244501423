"""Proof that a spiking network is its quantised one: layer by layer, code by code.

In exact arithmetic the two are equal by construction. In floating point a code may differ where a value lies
within rounding of the border between two levels (a *tie*): the two networks multiply matrices of different
heights, so the last bit of a product may differ. A tie in one layer moves its successors' inputs, whose codes
may then differ too (*carried*). Every differing code is shown to be one or the other; one that is neither is
a defect and fails.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, labels_removed
from snn.conversion.convert import refuse_mixed_rows
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.conversion.surgery import place
from snn.errors import ConversionError
from snn.functional.padding import valid_positions
from snn.neurons.base import Neuron
from snn.neurons.run import Event, Run

#: Rounding that two orders of summation may leave, in units of the last place of the largest input of a
#: layer.
ROUNDING_ULPS = 256


@dataclass
class LayerError:
    """Difference of one layer's aggregates at T: spiking minus quantised.

    Args:
        name: Dotted name of the neuron.
        elements: Values compared.
        differing: Values whose code differs.
        ties: Of these, those whose inputs agree within rounding and straddle a border between two levels.
        carried: Of these, those whose inputs differ by more than rounding, because an earlier layer's code
            does.
        unsettled: Values whose count would still change after T if the input stayed as it is.
        margin: Largest distance of a tie from its border, in levels.
        max_error: Largest absolute difference.
        mean_error: Mean absolute difference.
    """

    name: str
    elements: int = 0
    differing: int = 0
    ties: int = 0
    carried: int = 0
    unsettled: int = 0
    margin: float = 0.0
    max_error: float = 0.0
    mean_error: float = 0.0


@dataclass
class Report:
    """What :func:`verify` found; in the order in which the layers ran.

    Args:
        layers: One entry per neuron and call.
        logits_max_error: Largest absolute difference of the logits at T.
        logits_mean_error: Mean absolute difference.
        samples: Samples compared.
        same_prediction: Samples with the same arg-max.
        exact: Whether the method promises equality; if not, the figures are its conversion error.
        dtype: Arithmetic in which both networks ran.
        tolerance: Largest logit error allowed where no code differs.
    """

    layers: list[LayerError] = field(default_factory=list)
    logits_max_error: float = 0.0
    logits_mean_error: float = 0.0
    samples: int = 0
    same_prediction: int = 0
    exact: bool = True
    dtype: str = "float32"
    tolerance: float = 0.0

    @property
    def max_error(self) -> float:
        """Largest absolute difference of the logits."""
        return self.logits_max_error

    @property
    def differing(self) -> int:
        return sum(layer.differing for layer in self.layers)

    @property
    def ties(self) -> int:
        return sum(layer.ties for layer in self.layers)

    @property
    def elements(self) -> int:
        return sum(layer.elements for layer in self.layers)

    @property
    def unsettled(self) -> int:
        return sum(layer.unsettled for layer in self.layers)

    @property
    def unexplained(self) -> int:
        """Differing codes that are no tie and have no tie before them."""
        count, seen_tie = 0, False
        for layer in self.layers:
            seen_tie = seen_tie or layer.ties > 0
            count += layer.differing - layer.ties - (layer.carried if seen_tie else 0)
        return count

    @property
    def passed(self) -> bool:
        if not self.exact or self.unsettled:
            return True
        return self.unexplained == 0 and (self.differing > 0 or self.logits_max_error <= self.tolerance)

    @property
    def verdict(self) -> str:
        """One sentence."""
        same = f"same class for {self.same_prediction:,} of {self.samples:,} samples"
        if not self.exact:
            return f"measured, not exact by law: logits differ by at most {self.logits_max_error:.2g}; {same}"
        if self.unsettled:
            return (
                f"not settled: {self.unsettled / self.elements:.2%} of {self.elements:,} counts would still change "
                f"after T, so raise T; logits differ by at most {self.logits_max_error:.2g}; {same}"
            )
        if not self.passed:
            return (
                f"FAILED: {self.unexplained:,} of {self.elements:,} codes differ for no reason of rounding; "
                f"logits differ by at most {self.logits_max_error:.2g}; {same}"
            )
        if self.differing == 0:
            return f"every one of {self.elements:,} codes equal ({self.dtype}); {same}"
        return (
            f"{self.ties:,} ties within rounding among {self.elements:,} codes ({self.dtype}), and "
            f"{self.differing - self.ties:,} that follow from them; "
            f"logits differ by at most {self.logits_max_error:.2g}; {same}"
        )

    def to_markdown(self) -> str:
        """The table, layer by layer."""
        columns = [
            "layer",
            "codes",
            "differing",
            "ties",
            "carried",
            "largest margin",
            "max error",
            "mean error",
        ]
        lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
        for x in self.layers:
            lines.append(
                f"| `{x.name}` | {x.elements:,} | {x.differing:,} | {x.ties:,} | {x.carried:,} | {x.margin:.1e} | "
                f"{x.max_error:.1e} | {x.mean_error:.1e} |"
            )
        lines.append(f"| **logits** | | | | | | {self.logits_max_error:.1e} | {self.logits_mean_error:.1e} |")
        return f"{self.verdict[0].upper()}{self.verdict[1:]}.\n\n" + "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "exact": self.exact,
            "dtype": self.dtype,
            "tolerance": self.tolerance,
            "max_error": self.logits_max_error,
            "mean_error": self.logits_mean_error,
            "logits": {"max_error": self.logits_max_error, "mean_error": self.logits_mean_error},
            "elements": self.elements,
            "differing": self.differing,
            "ties": self.ties,
            "unsettled": self.unsettled,
            "unexplained": self.unexplained,
            "samples": self.samples,
            "same_prediction": self.same_prediction,
            "layers": [asdict(layer) for layer in self.layers],
        }

    def raise_for_tolerance(self) -> None:
        """Raise unless the network is what its method promises.

        Raises:
            ConversionError: With the verdict.
        """
        if not self.passed:
            raise ConversionError(f"verification: {self.verdict}")


@torch.no_grad()
def verify(
    model: nn.Module,
    network: SpikingNetwork,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
) -> Report:
    """Run both networks on the same batches and compare every code and the logits at T.

    Args:
        model: The quantised network, in evaluation mode.
        network: Its spiking network; it runs in parallel over time whatever its execution.
        batches: Model inputs; ``labels`` are ignored.
        dtype: Compare copies in this precision, such as ``torch.float64``, in which no tie is to be expected.
        tolerance: Largest logit error where no code differs; by default 1e-9 in float64 and 1e-4 otherwise,
            times the largest logit.

    Raises:
        ConversionError: Rows of a batch are mixed, the layers of the two do not correspond, or there is no
            batch.
    """
    if dtype is not None:
        model, network = copy.deepcopy(model).to(dtype), copy.deepcopy(network).to(dtype)
    first = next(iter(network.neurons.values()))
    same_levels = all(q.bounds[1] == network.T for q in quantizers(model).values()) or network.coding == "sum"
    report = Report(exact=first.exact != "never" and same_levels)
    layers: dict[str, LayerError] = {}
    errors, largest_logit = 0.0, 0.0
    for batch in batches:
        inputs = _cast(labels_removed(batch), dtype)
        if report.samples == 0:
            refuse_mixed_rows(model, inputs)
        with valid_positions(inputs.get("attention_mask")):
            captured, logits = _capture(model, inputs)
        compare = _Comparison(captured, {m: n for n, m in network.neurons.items()}, layers)
        output = network(execution="parallel", record=False, observers=(compare,), **inputs)
        compare.refuse_missing()
        gap = (output.logits[-1] - logits).abs()
        report.logits_max_error = max(report.logits_max_error, float(gap.max()))
        largest_logit = max(largest_logit, float(logits.abs().max()))
        errors += float(gap.mean()) * logits.shape[0]
        report.samples += logits.shape[0]
        report.same_prediction += int((output.logits[-1].argmax(-1) == logits.argmax(-1)).sum())
        report.dtype = str(logits.dtype).removeprefix("torch.")
    if not report.samples:
        raise ConversionError("verification needs at least one batch")
    report.layers = list(layers.values())
    report.logits_mean_error = errors / report.samples
    relative = 1e-9 if report.dtype == "float64" else 1e-4
    report.tolerance = relative * max(largest_logit, 1.0) if tolerance is None else tolerance
    return report


def _cast(inputs: dict[str, Any], dtype: torch.dtype | None) -> dict[str, Any]:
    if dtype is None:
        return inputs
    return {
        k: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()
    }


def _capture(
    model: nn.Module, inputs: dict[str, Any]
) -> tuple[dict[tuple[str, int], tuple[Tensor, Tensor]], Tensor]:
    """Input and output of every quantiser, by name and number of the call, in order of execution."""
    captured: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
    calls: dict[str, int] = {}

    def hook(name: str) -> Any:
        def keep(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            captured[name, calls.get(name, 0)] = args[0], output
            calls[name] = calls.get(name, 0) + 1

        return keep

    handles = [q.register_forward_hook(hook(name)) for name, q in quantizers(model).items()]
    try:
        return captured, call_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


class _Comparison:
    """Observer that compares each neuron's last step with what the quantiser in its place did."""

    def __init__(
        self,
        captured: dict[tuple[str, int], tuple[Tensor, Tensor]],
        names: Mapping[nn.Module, str],
        layers: dict[str, LayerError],
    ):
        self.captured, self.names, self.layers = captured, names, layers

    def __call__(self, run: Run, event: Event) -> None:
        name = self.names[event.neuron]
        if (name, event.call) not in self.captured:
            raise ConversionError(
                f"{name} is not in the quantised network: these two networks do not belong together"
            )
        wanted_input, wanted = self.captured.pop((name, event.call))
        label = place(name) + (f"#{event.call}" if event.call else "")
        layer = self.layers.setdefault(label, LayerError(label))
        unit = event.unit if event.unit.dim() < event.counts.dim() else event.unit[-1]
        got, count = event.counts[-1] * unit, event.counts[-1]
        gap = (got - wanted).abs()
        differing = count != (wanted / unit).round()
        total = layer.mean_error * layer.elements + float(gap.sum())
        layer.elements += gap.numel()
        layer.mean_error = total / layer.elements
        layer.max_error = max(layer.max_error, float(gap.max()))
        neuron = event.neuron
        if isinstance(neuron, Neuron) and neuron.exact == "settled":
            layer.unsettled += int((neuron.final_count(event.aggregate[-1], unit, run) != count).sum())
        number = int(differing.sum())
        if not number:
            return
        layer.differing += number
        self._explain(layer, event.aggregate[-1], wanted_input, unit, differing)

    @staticmethod
    def _explain(layer: LayerError, got: Tensor, wanted: Tensor, unit: Tensor, differing: Tensor) -> None:
        scaled = (wanted / unit + 0.5)[differing]
        moved = ((got - wanted) / unit).abs()[differing]
        distance = (scaled - scaled.round()).abs()
        epsilon = torch.finfo(got.dtype).eps
        rounding = (ROUNDING_ULPS * epsilon * wanted.abs().max() / unit).expand_as(wanted)[differing]
        near = (moved <= rounding) & (distance <= rounding)
        layer.ties += int(near.sum())
        layer.carried += int(((moved > rounding) & ~near).sum())
        if bool(near.any()):
            layer.margin = max(layer.margin, float(distance[near].max()))

    def refuse_missing(self) -> None:
        if self.captured:
            raise ConversionError(
                f"{next(iter(self.captured))[0]} has no neuron: these two networks do not belong together"
            )
