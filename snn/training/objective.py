"""What a step of training minimises, and what a network is judged by in validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from snn.config import TrainingConfig
from snn.conversion.call import call_model, labels_removed
from snn.evaluation.evaluate import evaluate
from snn.training.losses import (
    classification_loss,
    for_outputs,
    loss_over_time,
    regression_loss,
    regression_over_time,
)

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Verdict:
    """What validation found.

    Args:
        metrics: All figures, ``loss`` among them.
        metric: Name of the one that the network is judged by.
        score: Its value, negative where smaller is better.
    """

    metrics: Mapping[str, float]
    metric: str
    score: float


class Objective(nn.Module, ABC):
    """A loss of a network on a batch. What it has to learn for it, it holds as parameters of its own.

    Attributes:
        metric: What a network is judged by.
        smaller_is_better: Whether a smaller value of it is.
    """

    metric: str
    smaller_is_better = False

    @abstractmethod
    def forward(self, network: nn.Module, batch: Batch) -> Tensor:
        """The loss, a tensor without axes."""

    @abstractmethod
    def validate(self, network: nn.Module, batches: Iterable[Batch], description: str) -> Verdict:
        """Judge a network on batches of a split."""

    def value(self, score: float) -> float:
        """The metric that a score stands for."""
        return -score if self.smaller_is_better else score


class Learner(nn.Module):
    """A network and its objective as one module: what is optimised, saved, and kept alike on several devices.

    Args:
        network: What is trained.
        objective: For what; its parameters are trained along.
    """

    def __init__(self, network: nn.Module, objective: Objective):
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, batch: Batch) -> Tensor:
        return self.objective(self.network, batch)


class LabelObjective(Objective):
    """The loss of labels: cross-entropy of classes, mean squared error of measurements.

    Args:
        metrics: Of the data set; a network is judged by the first, unless by the loss.
        training: With ``label_smoothing``, ``time_loss`` and ``monitor``.
    """

    def __init__(self, metrics: list[str], training: TrainingConfig):
        super().__init__()
        self.metrics, self.training_config = metrics, training
        self.smaller_is_better = training.monitor == "loss"
        self.metric = "loss" if self.smaller_is_better else metrics[0]

    def forward(self, network: nn.Module, batch: Batch) -> Tensor:
        return self.loss(call_model(network, labels_removed(batch)), batch["labels"])

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of the read-out ``[B, C]``, or ``[T, B, C]``, that of every step of a network that spikes by itself."""
        settings = self.training_config
        # With another axis they are shares of classes.
        measured = labels.is_floating_point() and labels.dim() == 1
        labels = for_outputs(labels, logits.shape[-1])
        if logits.dim() == 3:
            kind = settings.time_loss
            if measured:
                return regression_over_time(logits, labels, kind)
            return loss_over_time(logits, labels, kind, settings.label_smoothing)
        if measured:
            return regression_loss(logits, labels)
        return classification_loss(logits, labels, settings.label_smoothing)

    def validate(self, network: nn.Module, batches: Iterable[Batch], description: str) -> Verdict:
        found = evaluate(network, batches, metrics=self.metrics, description=description, record=False)
        score = -found.metrics["loss"] if self.smaller_is_better else found.score
        return Verdict(found.metrics, self.metric, score)
