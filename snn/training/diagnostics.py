"""Health of a quantised network in training: the pitfalls that cost accuracy and say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, labels_removed
from snn.conversion.quantize import quantizers
from snn.functional.padding import current_mask, valid_positions
from snn.functional.quantize import codes


@torch.no_grad()
def diagnose(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, float]:
    """Look at every quantiser on one batch, in evaluation mode; padding does not count.

    Args:
        model: A quantised network.
        batch: Model inputs.

    Returns:
        Over all quantisers: ``threshold_crossed`` (share of thresholds whose parameter is at or below zero,
        so that their magnitude counts), ``dead_channels`` (share of channels whose code is always 0),
        ``saturated`` (share of values at an outermost code), ``clipped`` (share of values beyond it by more
        than half a level), ``unused_levels`` (share of levels that no value takes). Empty for a network
        without quantisers.
    """
    found = quantizers(model)
    if not found:
        return {}
    rows: list[dict[str, float]] = []

    def look(quantizer: Any, args: tuple[Tensor, ...], _output: Tensor) -> None:
        x = args[0].float()
        step = quantizer.step_size(x)
        low, high = quantizer.bounds
        code = codes(x, step, low, high)
        counts = current_mask(x)
        counts = torch.ones_like(x, dtype=torch.bool) if counts is None else counts.expand_as(x)
        speaks = ((code != 0) & counts).movedim(quantizer.resolve_axis(code), -1).flatten(0, -2)
        edge = (code == high) | (code == low) if low < 0 else code == high
        beyond = (x > (high + 0.5) * step) | ((x < (low - 0.5) * step) if low < 0 else False)
        rows.append(
            {
                "threshold_crossed": float((quantizer.threshold <= 0).float().mean()),
                "dead_channels": 1 - float(speaks.any(0).float().mean()),
                "saturated": float(edge[counts].float().mean()),
                "clipped": float(beyond[counts].float().mean()),
                "unused_levels": 1 - code[counts].unique().numel() / (high - low + 1),
            }
        )

    handles = [q.register_forward_hook(look) for q in found.values()]
    training, device = model.training, next(model.parameters()).device
    inputs = {key: value.to(device) for key, value in labels_removed(batch).items()}
    model.eval()
    try:
        with valid_positions(inputs.get("attention_mask")):
            call_model(model, inputs)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return {key: sum(r[key] for r in rows) / len(rows) for key in rows[0]} if rows else {}
