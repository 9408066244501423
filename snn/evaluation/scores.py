"""How good the read-out is after each time step: accuracy, F1, Matthews', Pearson's and Spearman's correlation.

All are torchmetrics metrics, exact under any batching and number of processes. Those of classes follow from one
confusion matrix per step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef

from snn.errors import ConfigError, did_you_mean


class Confusion(Metric):
    """How often each class was taken for each, after each time step.

    Args:
        steps: Number of read-outs: T, or 1 for a network without time.
        classes: Number of classes C.

    Shape:
        ``update`` takes logits ``[T, B, C]`` and labels ``[B]``; ``compute`` gives counts ``[T, C, C]``, rows
        by label, columns by prediction.

    Example:
        >>> metric = Confusion(2, 2)
        >>> metric.update(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]), torch.tensor([0]))
        >>> accuracy(metric.compute())
        tensor([0., 1.], dtype=torch.float64)
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, steps: int, classes: int):
        super().__init__()
        self.add_state(
            "counts", torch.zeros(steps, classes, classes, dtype=torch.int64), dist_reduce_fx="sum"
        )

    def update(self, logits: Tensor, labels: Tensor) -> None:
        steps, classes, _ = self.counts.shape
        cells = labels * classes + logits.argmax(-1)
        cells = cells + classes**2 * torch.arange(steps, device=cells.device)[:, None]
        self.counts += torch.bincount(cells.flatten(), minlength=self.counts.numel()).view_as(self.counts)

    def compute(self) -> Tensor:
        return self.counts


class Spread(Metric):
    """Whether predictions differ by more than rounding, after each time step.

    Args:
        steps: Number of read-outs.

    Shape:
        ``update`` takes predictions ``[B, T]``; ``compute`` gives bools ``[T]``.
    """

    full_state_update = False
    low: Tensor
    high: Tensor

    def __init__(self, steps: int):
        super().__init__()
        self.add_state("low", torch.full((steps,), torch.inf), dist_reduce_fx="min")
        self.add_state("high", torch.full((steps,), -torch.inf), dist_reduce_fx="max")

    def update(self, values: Tensor) -> None:
        self.low = torch.minimum(self.low, values.amin(0))
        self.high = torch.maximum(self.high, values.amax(0))

    def compute(self) -> Tensor:
        return self.high - self.low > 1e-6 * torch.maximum(self.high.abs(), self.low.abs())


def accuracy(confusion: Tensor) -> Tensor:
    """Share of right predictions, ``[T, C, C]`` to ``[T]``."""
    confusion = confusion.double()
    return confusion.diagonal(dim1=1, dim2=2).sum(1) / confusion.sum((1, 2))


def f1(confusion: Tensor) -> Tensor:
    """F1 of class 1 if there are two classes, else the mean over classes; ``[T, C, C]`` to ``[T]``.

    A class that neither occurs nor is predicted is no part of the mean, as in scikit-learn.
    """
    confusion = confusion.double()
    hits = confusion.diagonal(dim1=1, dim2=2)
    found = confusion.sum(1) + confusion.sum(2)
    by_class = 2 * hits / found.clamp_min(1)
    if confusion.shape[1] == 2:
        return by_class[:, 1]
    return by_class.sum(1) / (found > 0).sum(1).clamp_min(1)


def matthews(confusion: Tensor) -> Tensor:
    """Matthews' correlation of labels and predictions, ``[T, C, C]`` to ``[T]``; 0 where it is undefined.

    Written out, because torchmetrics 1.9 gives 0.41 rather than 0 for predictions ``0 0 0`` of labels ``0 1 0``.
    """
    confusion = confusion.double()
    total = confusion.sum((1, 2))
    labels, predicted = confusion.sum(2), confusion.sum(1)
    covariance = confusion.diagonal(dim1=1, dim2=2).sum(1) * total - (labels * predicted).sum(1)
    spread = (total**2 - (labels**2).sum(1)) * (total**2 - (predicted**2).sum(1))
    return torch.where(spread > 0, covariance / spread.clamp_min(1).sqrt(), 0.0)


@dataclass(frozen=True)
class Score:
    """One metric: larger is better for every one.

    Args:
        task: ``classification`` or ``regression``.
        of_confusion: From a confusion matrix per step, for classes.
        of_values: Metric class that takes predictions and targets ``[B, T]``, for regression.
    """

    task: str
    of_confusion: Callable[[Tensor], Tensor] | None = None
    of_values: Callable[..., Metric] | None = None


SCORES = {
    "accuracy": Score("classification", of_confusion=accuracy),
    "f1": Score("classification", of_confusion=f1),
    "matthews": Score("classification", of_confusion=matthews),
    "pearson": Score("regression", of_values=PearsonCorrCoef),
    "spearman": Score("regression", of_values=SpearmanCorrCoef),
}


def check_scores(names: Sequence[str], task: str) -> None:
    """Refuse metrics that are unknown or of the other kind of task.

    Raises:
        ConfigError: Names the metric and those that fit.
    """
    fitting = [name for name, score in SCORES.items() if score.task == task]
    if not names:
        raise ConfigError(f"dataset.metrics: name at least one of {', '.join(fitting)}")
    for name in names:
        if name not in SCORES:
            raise ConfigError(f"dataset.metrics: unknown metric {name!r}; {did_you_mean(name, fitting)}")
        if name not in fitting:
            raise ConfigError(
                f"dataset.metrics: {name} is a metric of {SCORES[name].task}, but dataset.task={task}; "
                f"choices: {', '.join(fitting)}"
            )


class Scores(torch.nn.Module):
    """Several metrics of one task, all of them after each time step.

    Args:
        names: Of :data:`SCORES`, all of one task.
        steps: Number of read-outs: T, or 1 for a network without time.
        classes: Number of classes; 1 for a measurement.

    Shape:
        ``update`` takes logits ``[T, B, C]`` and labels ``[B]``.
    """

    def __init__(self, names: Sequence[str], steps: int, classes: int):
        super().__init__()
        self.names, self.steps = list(names), steps
        self.task = SCORES[self.names[0]].task
        self.metrics = torch.nn.ModuleDict()
        with warnings.catch_warnings(action="ignore"):  # on memory, and on constant predictions
            if self.task == "classification":
                self.metrics["confusion"] = Confusion(steps, classes)
            else:
                self.metrics["spread"] = Spread(steps).set_dtype(torch.float64)
            for name in self.names:
                make = SCORES[name].of_values
                if make is not None:
                    self.metrics[name] = make(num_outputs=steps).set_dtype(torch.float64)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        with warnings.catch_warnings(action="ignore"):  # on memory, and on constant predictions
            if self.task == "classification":
                self._of("confusion").update(logits, labels)
                return
            values = logits[..., 0].T.double()
            self._of("spread").update(values)
            targets = labels.double()[:, None].expand_as(values)
            for name in self.names:
                # One output is an axis less, to torchmetrics.
                self._of(name).update(*(x.squeeze(1) if self.steps == 1 else x for x in (values, targets)))

    def compute(self) -> dict[str, list[float]]:
        """Each metric after each step. A correlation with predictions that are equal, but for rounding, counts 0."""
        found: dict[str, list[float]] = {}
        with warnings.catch_warnings(action="ignore"):
            for name in self.names:
                of_confusion = SCORES[name].of_confusion
                value: Tensor = self._counts() if of_confusion else self._of(name).compute()
                if of_confusion is not None:
                    value = of_confusion(value)
                else:
                    value = torch.where(self._of("spread").compute(), value, 0.0)
                found[name] = value.reshape(-1).nan_to_num(0.0).tolist()
        return found

    def confusion(self) -> Tensor | None:
        """Counts at the last step, ``[C, C]``, rows by label; ``None`` for a measurement."""
        return self._counts()[-1] if self.task == "classification" else None

    def _counts(self) -> Tensor:
        """``[T, C, C]``; torchmetrics drops the axes of a single number, as there is for one step and one class."""
        metric = self._of("confusion")
        return metric.compute().view_as(metric.counts)

    def so_far(self) -> dict[str, float]:
        """The accuracy at the last step in this process alone; nothing of a measurement."""
        if self.task != "classification":
            return {}
        return {"accuracy": float(accuracy(self._of("confusion").counts[-1:]))}

    def _of(self, name: str) -> Any:
        return self.metrics[name]
