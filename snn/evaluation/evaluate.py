"""Measure a network on labelled batches: accuracy at every time step, spike rates by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, labels_removed
from snn.conversion.network import SpikingNetwork
from snn.errors import ConversionError, DataError
from snn.evaluation.metrics import AccuracyOverTime, SpikeRates
from snn.progress import progress


@dataclass
class Measurement:
    """What :func:`evaluate` found.

    Args:
        samples: Number of samples.
        metrics: At T: ``accuracy`` and ``loss`` (cross-entropy of the read-out).
        per_timestep: The same after each step t of this one run; empty for a network without time or a
            collapsed run.
        predictions: Arg-max of the read-out at T for each sample, in order.
        T: Number of time steps; ``None`` for a network without time.
        causal: Whether a read-out at t is what a network of t steps would give.
        layers: Spike rates by layer.
        spike_rate: Spikes per neuron per time step.
        spikes_per_sample: Spikes in the whole network for one sample.
        mean_steps: Steps computed per batch on average: less than T if runs had settled.
    """

    samples: int
    metrics: dict[str, float]
    per_timestep: dict[str, list[float]] = field(default_factory=dict)
    predictions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    T: int | None = None
    causal: bool = True
    layers: list[dict[str, Any]] = field(default_factory=list)
    spike_rate: float | None = None
    spikes_per_sample: float | None = None
    mean_steps: float | None = None

    @property
    def accuracy(self) -> float:
        return self.metrics["accuracy"]

    def agreement(self, other: Measurement) -> dict[str, int]:
        """How many samples get the same class from both networks."""
        same = int((self.predictions == other.predictions).sum())
        return {"same_prediction": same, "samples": self.samples}

    def to_dict(self) -> dict[str, Any]:
        """Plain types; layers and predictions are left out."""
        result: dict[str, Any] = {"samples": self.samples, "metrics": self.metrics}
        if self.T is not None:
            result |= {"T": self.T, "causal": self.causal, "per_timestep": self.per_timestep}
            result |= {"spike_rate": self.spike_rate, "spikes_per_sample": self.spikes_per_sample}
            result |= {"mean_steps": self.mean_steps}
        return result


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    execution: str | None = None,
    record: bool = True,
    limit: int | None = None,
    description: str = "evaluate",
) -> Measurement:
    """Measure a float, quantised or spiking network.

    Args:
        model: Any network; it is put into evaluation mode for the time and put back.
        batches: Mappings of model inputs and ``labels``.
        execution: Of a spiking network, instead of its own.
        record: Whether to count spikes.
        limit: Number of batches; ``None``: all.
        description: What the progress bar says.

    Raises:
        DataError: No batch, or labels that are missing or outside of the model's classes.
        ConversionError: The read-out is not finite.
    """
    network = model if isinstance(model, SpikingNetwork) else None
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next((p.device for p in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
    accuracy: AccuracyOverTime | None = None
    rates: SpikeRates | None = None
    loss, samples, steps, runs = 0.0, 0, 0, 0
    predictions = []
    try:
        for index, batch in enumerate(progress(batches, description, _length(batches, limit))):
            if limit is not None and index >= limit:
                break
            if "labels" not in batch:
                raise DataError("dataset: a metric was asked for, but the split has no labels")
            labels = batch["labels"].to(device)
            inputs = {k: v.to(device) for k, v in labels_removed(batch).items()}
            if network is not None:
                output = network(execution=execution, record=record, **inputs)
                logits = output.logits
                steps += output.steps
                if record and output.spikes:
                    rates = rates or SpikeRates(list(output.spikes), network.T).to(device)
                    rates.update(output.spikes)
            else:
                logits = call_model(model, inputs)[None]
            _check(logits, labels)
            accuracy = accuracy or AccuracyOverTime(logits.shape[0]).to(device)
            accuracy.update(logits, labels)
            loss += float(torch.nn.functional.cross_entropy(logits[-1].double(), labels, reduction="sum"))
            samples += labels.shape[0]
            runs += 1
            predictions.append(logits[-1].argmax(-1).cpu())
    finally:
        for module, training in modes.items():
            module.training = training
    if accuracy is None:
        raise DataError("dataset: there is nothing to evaluate: the split is empty")
    over_time = accuracy.compute().reshape(-1).tolist()  # torchmetrics squeezes a single value
    result = Measurement(
        samples, {"accuracy": over_time[-1], "loss": loss / samples}, predictions=torch.cat(predictions)
    )
    if network is not None:
        result.T, result.causal, result.mean_steps = network.T, network.causal, steps / runs
        if len(over_time) == network.T:
            result.per_timestep = {"accuracy": over_time}
        if rates is not None:
            result.layers, result.spike_rate = rates.by_layer(), rates.total_rate()
            result.spikes_per_sample = rates.spikes_per_sample()
    return result


def _check(logits: Tensor, labels: Tensor) -> None:
    classes = logits.shape[-1]
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(
            f"dataset: label {int(labels.max() if labels.max() >= classes else labels.min())} is outside of the "
            f"model's {classes} classes"
        )
    if not bool(logits.isfinite().all()):
        raise ConversionError("the network's read-out is not finite")


def _length(batches: Iterable[Any], limit: int | None) -> int | None:
    length = len(batches) if isinstance(batches, Sized) else None
    return length if limit is None or length is None else min(length, limit)
