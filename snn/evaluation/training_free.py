"""What a training-free conversion does to a calibrated network, as the config says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from snn.config import ConversionConfig
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.balance import balance
from snn.conversion.training_free.correct import correct
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
        if neuron.get("name") != "integrate_fire":
            raise ConfigError(
                f"conversion.balance needs neuron=integrate_fire; got neuron={neuron.get('name')}"
            )
        levels = next(iter(found.values())).levels
        initial = neuron.get("initial")
        balance(model, batches, levels, **({} if initial is None else {"initial": initial}))
        log.info("thresholds balanced for spiking inputs over %d steps", levels)
    return model
