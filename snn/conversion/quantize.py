"""From a float network to a quantised one: insert quantisers where a plan says, and set their thresholds from data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, labels_removed
from snn.conversion.plan import Plan, plan
from snn.conversion.rules import Rule, check_options
from snn.conversion.surgery import append, append_to_call, prepend, replace
from snn.errors import ConversionError
from snn.functional.padding import valid_positions
from snn.quantizers.base import Quantizer
from snn.quantizers.registry import QUANTIZERS
from snn.quantizers.thresholds import estimate_threshold


def quantize(
    model: nn.Module,
    rules: Iterable[Mapping[str, Any] | Rule],
    *,
    where: str = "quantization.rules",
    **defaults: Any,
) -> nn.Module:
    """A quantised copy of ``model``; its thresholds are still to be set (:func:`calibrate`) unless given as
    numbers.

    Args:
        model: A float network; it is not changed.
        rules: Where the quantisers go; see :class:`snn.conversion.rules.Rule`.
        where: Config key for error messages.
        defaults: The quantiser's ``name`` and arguments where a rule does not say.

    Returns:
        The copy, with its :class:`~snn.conversion.plan.Plan` in ``.plan``.

    Raises:
        ConfigError: A rule is malformed or matches nothing.
        ConversionError: Nothing would be quantised.
    """
    made = plan(model, rules, defaults, where)
    quantised = copy.deepcopy(model)
    insert(quantised, made)
    return quantised


def insert(model: nn.Module, made: Plan) -> None:
    """Carry out a plan on ``model`` itself."""
    for step in made.actions:
        options = dict(step.options or {})
        name = options.pop("name")
        check_options(options, name, f"rule {step.rule}")
        module = model.get_submodule(step.name)
        quantizer = QUANTIZERS.get(name)(**options).train(module.training)
        if step.call is not None:
            quantizer.over_keys = step.call == "softmax"
            append_to_call(module, step.name, step.call, quantizer)
        elif step.do == "append":
            append(module, step.name, quantizer)
        elif step.do == "prepend":
            prepend(module, step.name, quantizer)
        else:
            replace(model, step.name, quantizer)
    model.plan = made  # type: ignore[assignment]


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
    """Set every threshold from what the float network computes on a few batches; padding is left out.

    Args:
        model: A quantised network; changed in place.
        batches: Mappings of model inputs; ``labels`` are ignored.
        init: ``mse``, ``max`` or ``percentile``; see :func:`snn.quantizers.thresholds.estimate_threshold`.
        percentile: For ``percentile``.
        rows: Rows (tokens or pixels) kept per quantiser, over all batches.
        max_batches: Batches looked at.

    Raises:
        ConversionError: No quantiser, no batch, or a quantiser that saw no data.
    """
    found = quantizers(model)
    if not found:
        raise ConversionError("the model has no quantiser: quantise it first (snn.quantize)")
    taken = [b for b, _ in zip(batches, range(max_batches))]
    if not taken:
        raise ConversionError("no batch to set thresholds from")
    training = model.training
    model.eval()
    try:
        for quantizer in found.values():
            quantizer.observe(max(1, rows // len(taken)))
        device = next(model.parameters()).device
        for batch in taken:
            inputs = {k: v.to(device) for k, v in labels_removed(batch).items()}
            with valid_positions(inputs.get("attention_mask")):
                call_model(model, inputs)
        estimates = {}
        for name, quantizer in found.items():
            try:
                estimates[name] = estimate_threshold(quantizer, init, percentile)
            except ConversionError as error:
                raise ConversionError(f"{name}: {error}") from None
        # All or none: after an error the thresholds are what they were.
        for name, estimate in estimates.items():
            found[name].set_threshold(found[name].from_step(found[name].step_for(estimate)))
    finally:
        for quantizer in found.values():
            quantizer._samples = None
        model.train(training)
    return model
