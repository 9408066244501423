"""Proof that a spiking network is its quantised one: layer by layer, code by code.

In exact arithmetic the two are equal by construction. In floating point a code may differ where a value lies
within rounding of the border between two levels (a *tie*): the two networks multiply matrices of different
heights, so the last bit of a product may differ. A tie in one layer moves its successors' inputs, whose codes
may then differ too (*carried*). A causal neuron may not have settled by T (*late*), and what it feeds differs
likewise. Every differing code is shown to be one of these; one that is none is a defect and fails.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.agreement import slices
from snn.conversion.call import labels_removed
from snn.conversion.comparison import Comparison, capture
from snn.conversion.convert import refuse_mixed_rows
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.conversion.report import Limits, Report
from snn.errors import ConversionError
from snn.functional.padding import valid_positions


@torch.no_grad()
def verify(
    model: nn.Module,
    network: SpikingNetwork,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
    max_error: float | None = None,
    min_agreement: float | None = None,
    require_settled: bool = False,
) -> Report:
    """Run both networks on the same batches and compare every code and the logits at T.

    Args:
        model: The quantised network, in evaluation mode.
        network: Its spiking network; it runs in parallel over time whatever its execution, on a few samples
            at once if T is large.
        batches: Model inputs; ``labels`` are ignored.
        dtype: Compare copies in this precision, such as ``torch.float64``, in which no tie is to be expected.
        tolerance: Largest logit error where no code differs; by default 1e-9 in float64 and 1e-4 otherwise,
            times the largest logit.
        max_error: Largest logit error allowed, for methods that are not exact, too.
        min_agreement: Least share of equal predictions, in [0, 1], likewise.
        require_settled: Whether counts that have not settled by T are a failure.

    Raises:
        ConversionError: Rows of a batch are mixed, the layers of the two do not correspond, there is no
            batch, or ``min_agreement`` is asked of a read-out that predicts no class.
    """
    if dtype is not None:
        model, network = copy.deepcopy(model).to(dtype), copy.deepcopy(network).to(dtype)
    limits = Limits(0.0, max_error, min_agreement, require_settled)
    report = Report(exact=promises_equality(model, network), T=network.T, limits=limits)
    compare = Comparison({neuron: name for name, neuron in network.neurons.items()}, report.exact)
    for batch in batches:
        whole = _cast(labels_removed(batch), dtype)
        if report.samples == 0:
            refuse_mixed_rows(model, whole)
        for inputs in slices(whole, network.T):
            mask = inputs.get("attention_mask")
            with valid_positions(mask):
                captured, logits = capture(model, inputs)
            compare.expect(captured)
            # In the arithmetic of the quantised network.
            output = network(
                execution="parallel",
                chunk=network.T,
                record=False,
                observers=(compare,),
                integer=False,
                **inputs,
            )
            compare.finish()
            report.logits.add(output.logits[-1], logits, mask)
            report.dtype = str(logits.dtype).removeprefix("torch.")
    if not report.samples:
        raise ConversionError("verification needs at least one batch")
    if min_agreement is not None and report.logits.share is None:
        raise ConversionError(
            "conversion.min_agreement: the read-out is a single number, which predicts no class; "
            "use conversion.max_error"
        )
    report.layers = list(compare.layers.values())
    relative = 1e-9 if report.dtype == "float64" else 1e-4
    allowed = relative * max(report.logits.largest, 1.0) if tolerance is None else tolerance
    report.limits = replace(limits, tolerance=allowed)
    return report


def promises_equality(model: nn.Module, network: SpikingNetwork) -> bool:
    """Whether the law of the neurons makes the network equal to the quantised one at T, once settled."""
    same_levels = all(q.bounds[1] == network.T for q in quantizers(model).values())
    return network.kind.exact != "never" and (same_levels or network.coding == "sum")


def _cast(inputs: dict[str, Any], dtype: torch.dtype | None) -> dict[str, Any]:
    if dtype is None:
        return inputs
    return {
        k: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()
    }
