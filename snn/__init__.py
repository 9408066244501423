"""Quantised networks that spike: train, convert, simulate over time, measure.

    model = snn.create_model("bert", weights="minilm", num_classes=2)
    qann = snn.quantize(model, rules, levels=8)
    snn.calibrate(qann, batches)
    net = snn.convert(qann, neuron="para_inf", T=8)
    snn.verify(qann, net, batches).raise_for_tolerance()
    out = net(**batch)  # .logits [T, B, C], .spikes per layer

Everything here is imported on first use: ``import snn`` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "SpikingNetwork": "snn.conversion.network:SpikingNetwork",
    "attribute": "snn.conversion.attribution:attribute",
    "calibrate": "snn.conversion.quantize:calibrate",
    "convert": "snn.conversion.convert:convert",
    "correct": "snn.conversion.training_free.correct:correct",
    "create_model": "snn.models.registry:create_model",
    "evaluate": "snn.evaluation.evaluate:evaluate",
    "export_nir": "snn.conversion.nir_export:export_nir",
    "list_models": "snn.models.registry:list_models",
    "load": "snn.conversion.checkpoint:load_checkpoint",
    "load_dataset": "snn.data.load:load_dataset",
    "load_tokenizer": "snn.models.tokenizer:load_tokenizer",
    "plan": "snn.conversion.plan:plan",
    "quantize": "snn.conversion.quantize:quantize",
    "read_description": "snn.conversion.checkpoint:read_description",
    "save": "snn.conversion.checkpoint:save_checkpoint",
    "verify": "snn.conversion.verify:verify",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'snn' has no attribute {name!r}")
    module, _, attribute = _EXPORTS[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
