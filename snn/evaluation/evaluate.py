"""Measure a network on labelled batches: how good it is after every time step, spike rates by layer."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call, labels_removed, read_logits
from snn.conversion.native_watch import is_native
from snn.conversion.network import SpikingNetwork, SpikingOutput
from snn.errors import ConversionError, DataError
from snn.evaluation.metrics import SpikeRates
from snn.evaluation.native_operations import NativeMeter
from snn.evaluation.operations import OperationCounts
from snn.evaluation.read_out import decision_times
from snn.evaluation.scores import SCORES, Scores
from snn.evaluation.simulated_operations import SimulatedMeter
from snn.evaluation.spiking_meter import SpikingMeter
from snn.neurons.base import Neuron
from snn.neurons.native import NativeNeuron
from snn.neurons.simulated import SimulatedNetwork
from snn.progress import progress

log = logging.getLogger(__name__)

#: What runs a network and counts its spikes.
Meter = SpikingMeter | NativeMeter | SimulatedMeter


@dataclass
class Measurement:
    """What :func:`evaluate` found.

    Args:
        samples: Number of samples.
        metrics: At T: what was asked for, the first of which the network is judged by, and ``loss`` of the
            read-out (cross-entropy, or the mean squared error of a measurement).
        per_timestep: The same after each step t of this one run; empty for a network without time or a
            collapsed run.
        predictions: For each sample, in order: the class that the read-out at T says, or the measurement.
        confusion: Counts at T, rows by label, columns by prediction; empty for a measurement.
        T: Number of time steps; ``None`` for a network without time.
        causal: Whether a read-out at t is what a network of t steps would give.
        layers: Spike rates by layer.
        spike_rate: Spikes per neuron per time step.
        spikes_per_sample: Spikes in the whole network for one sample.
        mean_steps: Step after which no count of a sample changed any more, or at which it stopped, on average; T where
            nothing settles.
        decisions: How many samples decided at each step, 1 first: from then on their prediction stayed; empty where
            there is one step, and for measurements.
        operations: What a sample takes; ``None`` where no spikes were counted.
    """

    samples: int
    metrics: dict[str, float]
    per_timestep: dict[str, list[float]] = field(default_factory=dict)
    predictions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    confusion: list[list[int]] = field(default_factory=list)
    T: int | None = None
    causal: bool = True
    layers: list[dict[str, Any]] = field(default_factory=list)
    spike_rate: float | None = None
    spikes_per_sample: float | None = None
    mean_steps: float | None = None
    decisions: list[int] = field(default_factory=list)
    operations: OperationCounts | None = None

    @property
    def metric(self) -> str:
        """Name of the metric that the network is judged by; larger is better."""
        return next(iter(self.metrics))

    @property
    def score(self) -> float:
        """Its value at T."""
        return self.metrics[self.metric]

    def agreement(self, other: Measurement) -> dict[str, int]:
        """How many samples get the same class from both networks, or the same measurement within 1e-4."""
        same = torch.isclose(self.predictions.double(), other.predictions.double(), rtol=0, atol=1e-4)
        return {"same_prediction": int(same.sum()), "samples": self.samples}

    def to_dict(self) -> dict[str, Any]:
        """Plain types; layers and predictions are left out."""
        result: dict[str, Any] = {"samples": self.samples, "metrics": self.metrics}
        if self.T is not None:
            result |= {"T": self.T, "causal": self.causal, "per_timestep": self.per_timestep}
            result |= {"spike_rate": self.spike_rate, "spikes_per_sample": self.spikes_per_sample}
            result |= {"mean_steps": self.mean_steps}
            if self.decisions:
                result["decisions_per_timestep"] = self.decisions
        return result


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    metrics: Sequence[str] = ("accuracy",),
    execution: str | None = None,
    record: bool = True,
    description: str = "evaluate",
) -> Measurement:
    """Measure a float, quantised or spiking network.

    Args:
        model: Any network; it is put into evaluation mode for the time and put back.
        batches: Mappings of model inputs and ``labels``.
        metrics: Names from :data:`snn.evaluation.scores.SCORES`, the one that the network is judged by first.
        execution: Of a spiking network, instead of its own.
        record: Whether to count spikes.
        description: What the progress bar says.

    Raises:
        DataError: No batch, or labels that are missing or outside of the model's classes.
        ConversionError: The read-out is not finite.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next((p.device for p in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
    scores: Scores | None = None
    meter: Meter | None = None
    if isinstance(model, SpikingNetwork):
        meter = SpikingMeter(model, execution, record)
    loss, samples = 0.0, 0
    predictions, decided = [], []
    try:
        counted = progress(
            batches,
            description,
            len(batches) if isinstance(batches, Sized) else None,
            figures=lambda: _so_far(loss, samples, scores, meter.rates if meter else None),
        )
        for index, batch in enumerate(counted):
            if "labels" not in batch:
                raise DataError("dataset: a metric was asked for, but the split has no labels")
            labels = batch["labels"].to(device)
            inputs = {k: v.to(device) for k, v in labels_removed(batch).items()}
            if record and index == 0:
                meter = meter or _metered(model, inputs)
            logits = read_out(call(model, inputs) if meter is None else meter(inputs))
            _check(logits, labels, classes=SCORES[metrics[0]].task == "classification")
            scores = scores or Scores(metrics, logits.shape[0], logits.shape[-1]).to(device)
            scores.update(logits, labels)
            if len(logits) > 1 and not labels.is_floating_point():
                decided.append(decision_times(logits).cpu())
            loss += float(_loss(logits[-1].double(), labels))
            samples += labels.shape[0]
            predictions.append(_predictions(logits[-1], labels).cpu())
    finally:
        for module, training in modes.items():
            module.training = training
    if scores is None:
        raise DataError("dataset: there is nothing to evaluate: the split is empty")
    over_time = scores.compute()
    result = Measurement(
        samples,
        {**{name: values[-1] for name, values in over_time.items()}, "loss": loss / samples},
        predictions=torch.cat(predictions),
    )
    result.T = getattr(model, "T", None)  # only networks that spike have one
    if scores.steps == result.T:
        result.per_timestep = over_time
        if decided:
            result.decisions = torch.bincount(torch.cat(decided) - 1, minlength=scores.steps).tolist()
    result.causal = all(m.causal for m in model.modules() if isinstance(m, Neuron | NativeNeuron))
    confusion = scores.confusion()
    if confusion is not None:
        result.confusion = confusion.tolist()
    if isinstance(meter, SpikingMeter | SimulatedMeter):
        result.mean_steps = meter.mean_steps
    if meter is not None and meter.rates is not None:
        result.layers, result.spike_rate = meter.rates.by_layer(), meter.rates.total_rate()
        result.spikes_per_sample = meter.rates.spikes_per_sample()
    if meter is not None and meter.operations is not None:
        result.operations = meter.operations.counts()
    return result


def read_out(output: Any) -> Tensor:
    """What a network says after each step.

    Shape:
        ``[B, C]`` of a network without time to ``[1, B, C]``; ``[T, B, C]``, the output of each step of a network
        that spikes by itself, to its mean over the steps so far, ``[T, B, C]``; ``.logits_over_time`` ``[T, B, C]`` of
        one that says so itself, and the read-outs of a converted one, as they are.
    """
    if isinstance(output, SpikingOutput):
        return output.logits
    over_time = getattr(output, "logits_over_time", None)
    if over_time is not None:
        return over_time
    logits = read_logits(output)
    if logits.dim() == 2:
        return logits[None]
    steps = torch.arange(1, len(logits) + 1, dtype=logits.dtype, device=logits.device)
    return logits.cumsum(0) / steps[:, None, None]


def _metered(model: nn.Module, inputs: Mapping[str, Tensor]) -> Meter | None:
    """What counts the spikes of a network that spikes by itself; without it everything else can be measured."""
    try:
        if isinstance(model, SimulatedNetwork):
            return SimulatedMeter(model, inputs)
        return NativeMeter(model, inputs) if is_native(model) else None
    except ConversionError as error:
        log.warning("spikes and operations are not counted: %s", error)
        return None


def _check(logits: Tensor, labels: Tensor, classes: bool) -> None:
    width = logits.shape[-1]
    if classes != (not labels.is_floating_point()):
        kinds = ("measurements", "classes") if classes else ("classes", "measurements")
        raise DataError(f"dataset.metrics: labels are {kinds[0]}, but the metrics are of {kinds[1]}")
    if not classes and width != 1:
        raise DataError(f"dataset: a measurement needs one output; the model has {width}")
    if classes and (int(labels.min()) < 0 or int(labels.max()) >= width):
        raise DataError(
            f"dataset: label {int(labels.max() if labels.max() >= width else labels.min())} is outside of the "
            f"model's {width} classes"
        )
    if not bool(logits.isfinite().all()):
        raise ConversionError("the network's read-out is not finite")


def _so_far(loss: float, samples: int, scores: Scores | None, rates: SpikeRates | None) -> dict[str, float]:
    """What is worth seeing of an evaluation that goes on; of this process alone, without waiting for others."""
    found = {"loss": loss / samples} if samples else {}
    if scores is not None:
        found |= scores.so_far()
    return found | ({"spike rate": rates.total_rate()} if rates is not None else {})


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed over the batch."""
    if labels.is_floating_point():
        return torch.nn.functional.mse_loss(logits[:, 0], labels.double(), reduction="sum")
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")


def _predictions(logits: Tensor, labels: Tensor) -> Tensor:
    return logits[:, 0] if labels.is_floating_point() else logits.argmax(-1)
