"""From a float network to a quantised one: insert quantisers where a plan says, and set their thresholds from data."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, labels_removed
from snn.conversion.channels import locating_channels
from snn.conversion.plan import Plan, plan
from snn.conversion.rules import Rule
from snn.conversion.surgery import insert, place
from snn.errors import ConfigError, ConversionError
from snn.functional.padding import valid_positions
from snn.quantizers.base import Quantizer
from snn.quantizers.registry import INITS
from snn.quantizers.start import STARTS
from snn.quantizers.thresholds import estimate_threshold

log = logging.getLogger(__name__)

#: Share of an activation's magnitude that may be negative before an unsigned quantiser is warned of.
NEGLIGIBLE = 0.01


def quantize(
    model: nn.Module,
    rules: Iterable[Mapping[str, Any] | Rule],
    *,
    where: str = "quantization.rules",
    example: Mapping[str, Tensor] | None = None,
    **defaults: Any,
) -> nn.Module:
    """A quantised copy of ``model``; its thresholds are still to be set (:func:`calibrate`) unless given as
    numbers.

    Args:
        model: A float network; it is not changed.
        rules: Where the quantisers go; see :class:`snn.conversion.rules.Rule`.
        where: Config key for error messages.
        example: A batch, for rules that hold wherever something is called; see
            :mod:`snn.conversion.placement`.
        defaults: The quantiser's ``name`` and arguments where a rule does not say.

    Returns:
        The copy, with its :class:`~snn.conversion.plan.Plan` in ``.plan``.

    Raises:
        ConfigError: A rule is malformed or matches nothing.
        ConversionError: Nothing would be quantised, or the weights are of half precision.
    """
    refuse_half_precision(model)
    made = plan(model, rules, defaults, where, example)
    quantised = copy.deepcopy(model)
    insert(quantised, made)
    return quantised


def refuse_half_precision(model: nn.Module) -> None:
    """Raise unless every weight is float32 or float64: codes and counts are, and half a level must be exact in them.

    Raises:
        ConversionError: Names the first weight of half precision.
    """
    for name, weight in model.named_parameters():
        if weight.dtype in (torch.bfloat16, torch.float16):
            dtype = str(weight.dtype).removeprefix("torch.")
            raise ConversionError(
                f"the model's weights are {dtype} (first: {name}), but thresholds and spike counts need float32: "
                "call model.float() first"
            )


def quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """All quantisers of a model by dotted name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Quantizer)}


@torch.no_grad()
def calibrate(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    init: str = "mse",
    percentile: float = 99.9,
    rows: int = 4096,
    max_batches: int = 16,
) -> nn.Module:
    """Set every threshold that is not given as a number from what the float network computes on a few batches;
    padding is left out.

    Where neither a rule nor a module's class says on which axis of ``[B, ., ., .]`` the channels are, the layer
    that feeds the quantiser decides (:func:`~snn.conversion.channels.locating_channels`).

    Args:
        model: A quantised network; changed in place.
        batches: Mappings of model inputs; ``labels`` are ignored.
        init: For quantisers without an ``init`` of their own, one of :data:`~snn.quantizers.registry.INITS`; see
            :func:`snn.quantizers.thresholds.estimate_threshold` and :mod:`snn.quantizers.start`.
        percentile: For ``percentile``.
        rows: Rows (tokens or pixels) kept per quantiser, over all batches.
        max_batches: Batches looked at; ``first_batch``, ``ema20`` and ``one_over_qp`` look at 1, 20 and 1.

    Raises:
        ConfigError: An unknown ``init``, or a percentile out of range.
        ConversionError: No quantiser, no batch, or a quantiser that saw no data.
    """
    if init not in INITS:
        raise ConfigError(f"quantization.init must be one of {', '.join(INITS)}; got {init!r}")
    found = quantizers(model)
    if not found:
        raise ConversionError("the model has no quantiser: quantise it first (snn.quantize)")
    found = {name: quantizer for name, quantizer in found.items() if not quantizer.given}
    if not found:
        return model
    methods = {name: quantizer.init or init for name, quantizer in found.items()}
    wanted = max(STARTS[m].batches if m in STARTS else max_batches for m in methods.values())
    # The range comes first, so that no batch is fetched that nobody looks at.
    taken = [batch for _, batch in zip(range(wanted), batches)]
    if not taken:
        raise ConversionError("no batch to set thresholds from")
    training = model.training
    model.eval()
    try:
        for name, quantizer in found.items():
            quantizer.observe(0 if methods[name] in STARTS else max(1, rows // len(taken)))
        device = next(model.parameters()).device
        with locating_channels(model, found):
            for batch in taken:
                inputs = {k: v.to(device) for k, v in labels_removed(batch).items()}
                with valid_positions(inputs.get("attention_mask")):
                    call_model(model, inputs)
            _warn_of_lost_signs(model, found)
            estimates = {}
            for name, quantizer in found.items():
                try:
                    estimates[name] = estimate_threshold(quantizer, methods[name], percentile)
                except ConversionError as error:
                    raise ConversionError(f"{name}: {error}") from None
        # All or none: after an error the thresholds are what they were.
        for name, estimate in estimates.items():
            found[name].set_threshold(found[name].from_step(found[name].step_for(estimate)))
    finally:
        for quantizer in found.values():
            quantizer.forget()
        model.train(training)
    return model


def _warn_of_lost_signs(model: nn.Module, found: Mapping[str, Quantizer]) -> None:
    """Say which unsigned quantisers cut off values below zero, unless they stand for a function that does so itself."""
    made = getattr(model, "plan", None)
    replaced = {s.address for s in made.actions if s.do == "replace"} if isinstance(made, Plan) else set()
    lost = {}
    for name, quantizer in found.items():
        if quantizer.signed or name in replaced or not quantizer.samples_kept:
            continue
        values = quantizer.take_samples()
        share = float(values.clamp_max(0).abs().sum() / values.abs().sum().clamp_min(1e-12))
        if share > NEGLIGIBLE:
            lost[place(name)] = share
    if lost:
        worst = sorted(lost, key=lambda name: -lost[name])
        listed = ", ".join(f"{name} {lost[name]:.0%}" for name in worst[:3]) + (
            ", ..." if len(lost) > 3 else ""
        )
        log.warning(
            "%d unsigned quantisers cut off negative values; share of the magnitude lost: %s. Their rules may need "
            "signed: true",
            len(lost),
            listed,
        )
