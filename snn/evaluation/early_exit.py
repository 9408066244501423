"""Early exit: a sample stops at the first time step at which its read-out is certain enough.

All of it follows from the read-outs after every step of one run. How certain is enough is chosen on the validation
split, and the result reported on another one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snn.conversion.network import SpikingNetwork, SpikingOutput
from snn.errors import ConfigError, did_you_mean
from snn.evaluation.analyses import Analysis
from snn.evaluation.energy import energy
from snn.evaluation.exit_cost import ExitCost
from snn.evaluation.read_out import ReadOuts, full_execution, read_outs
from snn.evaluation.scores import Scores
from snn.evaluation.session import Session

log = logging.getLogger(__name__)

CRITERIA = ("margin", "entropy")


def certainty(logits: Tensor, criterion: str) -> Tensor:
    """How certain a read-out is; larger is more certain.

    Args:
        logits: Aggregates of the read-out.
        criterion: ``margin``: difference of the two largest probabilities, in [0, 1]; ``entropy``: minus the entropy of
            the probabilities, in nats.

    Shape:
        ``[..., C]`` to ``[...]``.

    Example:
        >>> certainty(torch.tensor([[0.0, 0.0], [0.0, 100.0]]), "margin")
        tensor([0., 1.])
    """
    logs = logits.log_softmax(-1)
    if criterion == "margin":
        best = logs.exp().topk(2, -1).values
        return best[..., 0] - best[..., 1]
    return (logs.exp() * logs).nan_to_num(0.0).sum(-1)


def exit_times(certain: Tensor, threshold: Tensor) -> Tensor:
    """Step at which each sample stops: the first at which it is certain enough, or else the last.

    Args:
        certain: Certainty after each step, ``[T, N]``.
        threshold: Of each rule, ``[K]``.

    Shape:
        Steps ``[K, N]``, int64 in 1..T.

    Example:
        >>> exit_times(torch.tensor([[0.1], [0.5], [0.9]]), torch.tensor([0.4, 0.95]))
        tensor([[2],
                [3]])
    """
    steps = len(certain)
    enough = certain >= threshold[:, None, None]
    enough[:, -1] = True
    times = torch.arange(1, steps + 1)[:, None]
    return torch.where(enough, times, steps).amin(1)


class Curve(NamedTuple):
    """Score against mean time steps, over thresholds.

    Args:
        thresholds: On the certainty; the last is infinite: no sample stops before it has settled.
        scores: ``[K]``.
        mean_steps: ``[K]``.
    """

    thresholds: Tensor
    scores: Tensor
    mean_steps: Tensor

    def choose(self, tolerance: float) -> int:
        """Which threshold needs the fewest steps within ``tolerance`` of the score without early exit; of several the
        most careful."""
        fit = self.scores >= self.scores[-1] - tolerance - 1e-12
        steps = torch.where(fit, self.mean_steps, torch.inf)
        return int((steps == steps.min()).nonzero().max())


def thresholds_from(certain: Tensor, number: int) -> Tensor:
    """Thresholds worth trying: evenly spaced ranks of the certainties before the last step, and infinity.

    Args:
        certain: ``[T, N]``.
        number: At most so many, infinity aside.

    Shape:
        ``[K]``, ascending.
    """
    values = certain[:-1].flatten().unique()
    if len(values) > number:
        values = values[torch.linspace(0, len(values) - 1, number).round().long()]
    return torch.cat([values, values.new_tensor([torch.inf])])


def exit_curve(found: ReadOuts, criterion: str, thresholds: Tensor, metric: str) -> Curve:
    """What every threshold gives on a split."""
    exits = _exits(found, criterion, thresholds)
    # The read-outs at which the samples stop, one rule after the other, take the place of time steps.
    stopped = found.logits[exits - 1, torch.arange(exits.shape[1])]
    return Curve(thresholds, _scores(stopped, found.labels, metric), exits.double().mean(1))


def _exits(found: ReadOuts | SpikingOutput, criterion: str, thresholds: Tensor) -> Tensor:
    """Step at which each sample stops, ``[K, N]``: when it is certain enough, or nothing changes any more."""
    certain = certainty(found.logits.double(), criterion).cpu()
    return exit_times(certain, thresholds).minimum(found.settled.cpu())


def _scores(logits: Tensor, labels: Tensor, metric: str) -> Tensor:
    scores = Scores([metric], logits.shape[0], logits.shape[-1])
    scores.update(logits, labels)
    return torch.tensor(scores.compute()[metric], dtype=torch.float64)


@dataclass
class EarlyExit(Analysis):
    """Choose on validation when a sample may stop; report score and mean time steps on ``evaluation.split``.

    Attributes:
        criterion: ``margin`` or ``entropy``, see :func:`certainty`.
        tolerance: What early exit may cost on validation, in the data set's first metric.
        thresholds: How many are tried.
    """

    criterion: str = "margin"
    tolerance: float = 0.005
    thresholds: int = 200

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise ConfigError(
                f"analysis.criterion: unknown name {self.criterion!r}; {did_you_mean(self.criterion, CRITERIA)}"
            )
        if not self.tolerance >= 0:
            raise ConfigError(f"analysis.tolerance must be at least 0; got {self.tolerance}")
        if self.thresholds < 1:
            raise ConfigError(f"analysis.thresholds must be at least 1; got {self.thresholds}")

    def check(self, session: Session) -> None:
        if session.dataset.task != "classification":
            raise ConfigError(
                f"analysis=early_exit compares the probabilities of classes; dataset={session.dataset.name} has "
                "measurements"
            )
        if session.config.evaluation.split == "validation":
            raise ConfigError(
                "analysis=early_exit chooses its threshold on the validation split, so it must be reported on another "
                "one; got evaluation.split=validation"
            )
        if session.data.num_classes < 2:
            raise ConfigError(f"analysis=early_exit compares classes; dataset={session.dataset.name} has one")

    def run(self, session: Session, network: SpikingNetwork) -> None:
        config, metric = session.config.evaluation, session.dataset.metrics[0]
        with session.timed("analysis early_exit"):
            batches = session.batches("validation", limit=config.limit)
            validation = read_outs(network, batches, "read validation")
            tried = thresholds_from(certainty(validation.logits, self.criterion), self.thresholds)
            curves = {"validation": exit_curve(validation, self.criterion, tried, metric)}
            chosen = curves["validation"].choose(self.tolerance)
            cost = self._cost(network, tried[chosen, None])
            batches = session.batches(config.split, limit=config.limit)
            reported = read_outs(network, batches, f"read {config.split}", cost)
            curves["reported"] = exit_curve(reported, self.criterion, tried, metric)
        found = {"validation": validation, "reported": reported}
        thresholds = [self._in_its_unit(threshold) for threshold in tried]
        result: dict[str, Any] = {
            "criterion": self.criterion,
            "threshold": thresholds[chosen],
            "tolerance": self.tolerance,
            "metric": metric,
            "T": network.T,
            "causal": network.causal,
            "split": config.split,
            "thresholds": thresholds,
        }
        for part, own in found.items():
            exits = _exits(own, self.criterion, tried[chosen, None])[0]
            curve = curves[part]
            result[part] = {
                "samples": len(own.labels),
                "score": float(curve.scores[chosen]),
                "mean_steps": float(curve.mean_steps[chosen]),
                "score_at_T": float(curve.scores[-1]),
                "per_timestep": _scores(own.logits, own.labels, metric).tolist(),
                "exits_per_timestep": torch.bincount(exits - 1, minlength=network.T).tolist(),
                "curve": {"mean_steps": curve.mean_steps.tolist(), "scores": curve.scores.tolist()},
            }
        if cost is not None:
            result["reported"]["spikes_per_sample"] = cost.spikes_per_sample
            if cost.operations is not None:
                spent = energy(cost.operations.counts(), session.config.energy).networks[-1]
                result["reported"]["energy_uj"] = spent["energy_uj"]
        session.summary["early_exit"] = result
        columns = [f"{part}_{name}" for part in curves for name in ("mean_steps", metric)]
        values = [x.tolist() for curve in curves.values() for x in (curve.mean_steps, curve.scores)]
        session.trackers.table("early_exit", ["threshold", *columns], list(zip(thresholds, *values)))
        log.info(
            "early exit (%s%s) on %s: %s %.4f after %.2f of %d steps; %.4f without",
            self.criterion,
            "" if network.causal else ", prefix",
            config.split,
            metric,
            result["reported"]["score"],
            result["reported"]["mean_steps"],
            network.T,
            result["reported"]["score_at_T"],
        )

    def _cost(self, network: SpikingNetwork, threshold: Tensor) -> ExitCost | None:
        """Counts what samples cost that stop; ``None`` where stopping saves nothing, or where that cannot be told."""
        if not network.causal:
            return None

        def exits(output: SpikingOutput) -> Tensor:
            return _exits(output, self.criterion, threshold)[0]

        return ExitCost(network, exits, full_execution(network))

    def _in_its_unit(self, threshold: Tensor) -> float | None:
        """As the criterion is spoken of: a least margin, or a greatest entropy; ``None``: no early exit."""
        if not threshold.isfinite():
            return None
        return float(threshold if self.criterion == "margin" else -threshold)
