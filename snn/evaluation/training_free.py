"""What a training-free conversion does to a calibrated network, as the config says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from snn.config import ConversionConfig
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.balance import balance
from snn.conversion.training_free.correct import correct
from snn.conversion.training_free.offsets import set_offsets
from snn.errors import ConfigError
from snn.quantizers.da_qcfs import DAQCFS

log = logging.getLogger(__name__)


def training_free(
    model: nn.Module,
    batches: list[Mapping[str, Tensor]],
    asked: ConversionConfig,
    neuron: Mapping[str, Any],
) -> nn.Module:
    """Correct shifts and heights where the quantisers have them, and balance thresholds where that is asked for.

    Args:
        model: A calibrated network, changed in place.
        batches: Those that thresholds were set from.
        asked: Of the config.
        neuron: The neuron that it will be converted to, and its arguments.

    Raises:
        ConfigError: Balancing for a neuron that does not integrate its input over time.
    """
    found = quantizers(model)
    settings = asdict(asked.correction)
    if settings["rule"] is not None and any(isinstance(q, DAQCFS) for q in found.values()):
        correct(model, batches, **settings)
        log.info("shifts and heights set by %s from %d batches", settings["rule"], len(batches))
    if asked.balance is not None:
        levels = next(iter(found.values())).levels
        balance(model, batches, levels, initial=_start(neuron, "conversion.balance"))
        log.info("thresholds balanced for spiking inputs over %d steps", levels)
    return model


def offset(
    model: nn.Module,
    trained: nn.Module | None,
    batches: list[Mapping[str, Tensor]],
    kind: str,
    neuron: Mapping[str, Any],
    T: int,
) -> None:
    """Choose what integrate-and-fire neurons get beside their input.

    Args:
        model: A quantised network; it gets the offsets.
        trained: The one that it was made from, if that had other levels.
        batches: Training data.
        kind: ``membrane`` or ``steps``.
        neuron: The neuron that it will be converted to, and its arguments.
        T: Number of time steps.

    Raises:
        ConfigError: A neuron that does not integrate its input over time.
    """
    set_offsets(model, batches, T, kind, trained=trained, initial=_start(neuron, "conversion.offsets"))
    chosen = torch.cat([q.offset.flatten() for q in quantizers(model).values() if q.offset is not None])
    log.info("offsets (%s) for T = %d: %.2g thresholds on average", kind, T, chosen.abs().mean())


def kind_of_offsets(model: nn.Module) -> str | None:
    """``membrane`` or ``steps`` where a quantised network holds offsets, else ``None``."""
    found = [q.offset for q in quantizers(model).values() if q.offset is not None]
    if not found:
        return None
    return "membrane" if len(found[0]) == 1 else "steps"


def _start(neuron: Mapping[str, Any], key: str) -> float:
    """Where membranes start, in thresholds.

    Raises:
        ConfigError: Another neuron than integrate-and-fire.
    """
    if neuron.get("name") != "integrate_fire":
        raise ConfigError(f"{key} needs neuron=integrate_fire; got neuron={neuron.get('name')}")
    initial = neuron.get("initial")
    return 0.5 if initial is None else float(initial)
