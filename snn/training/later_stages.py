"""What later stages need, asked before the first one trains."""

from __future__ import annotations

import logging

import torch
from torch import nn

from snn.checks import TRAINED
from snn.config import Config, optimizer_section
from snn.conversion.quantize import quantizers
from snn.errors import ConfigError
from snn.evaluation.build import rehearse_quantization, starts_in_training
from snn.evaluation.session import Session
from snn.models.registry import spikes_by_itself
from snn.models.tokenizer import check_tokenizer
from snn.training.lesson import LESSONS, check_lesson, lesson, rehearse_lesson, trains_predictions
from snn.training.optimizer import build_optimizer
from snn.training.schedule import build_scheduler

log = logging.getLogger(__name__)


def check_later_stages(session: Session, model: nn.Module) -> None:
    """Refuse what a later stage would refuse, before the first one trains.

    Args:
        session: With the data and tokenizer of the run.
        model: The network that the first stage gets; it is left as it is.

    Raises:
        ConfigError: A stage that lacks another one, its data, a teacher that fits, its quantisers or the split that it
            is to measure, or whose optimiser or schedule does not take what it is given.
        ConversionError: Quantisers that cannot be put where the rules say.
    """
    training = session.config.training
    if "native" in training.stages and not spikes_by_itself(model):
        raise ConfigError(
            "training.stages: native is for networks that spike by themselves; "
            f"model={session.config.model.name} is converted (conversion=direct)"
        )
    if not quantizers(model):
        _check_quantisers(session, model)
    elif "float" in training.stages:
        raise ConfigError(
            f"training.stages: float trains a network without quantisers, but checkpoint={session.config.checkpoint} "
            "is quantised; leave it out, or start from the float network"
        )
    for stage in training.stages:
        if stage in TRAINED and not (stage == "spiking" and training.spiking.epochs == 0):
            check_lesson(session, stage)
            _check_own_teacher(session, model, stage)
            _check_recipe(session.config, stage)
            _rehearse(session, model, stage)
    if "evaluate" in training.stages:
        session.evaluated_split()
        _warn_of_chance(session, model)


def _check_quantisers(session: Session, model: nn.Module) -> None:
    stages = session.config.training.stages
    if "calibrate" in stages or starts_in_training(session):
        rehearse_quantization(session, model)
    elif "quantized" in stages:
        raise ConfigError(
            "training.stages: quantized needs calibrate before it, a quantised checkpoint to start from, or "
            "thresholds that start in training (quantization.init=first_batch or ema20)"
        )
    elif "convert" in stages:
        raise ConfigError("training.stages: convert needs a quantised network: put calibrate before it")


def _check_recipe(config: Config, stage: str) -> None:
    """Build a stage's optimiser and schedule once, for parameters that nobody needs."""
    section = getattr(config.training, stage)
    probe = nn.ParameterList([torch.zeros(1, 1), torch.zeros(1)])
    key, chosen = optimizer_section(config, stage, section)
    optimizer = build_optimizer(probe, chosen, section.lr, section.threshold_lr, key)
    build_scheduler(config, section, optimizer, total_steps=1)


def _rehearse(session: Session, model: nn.Module, stage: str) -> None:
    """Open the data that a stage brings, and show the network and its teacher an example."""
    brought = getattr(session.config.training, stage).dataset
    own = session.dataset
    if brought is not None and brought.kind != own.kind:
        raise ConfigError(
            f"training.{stage}.dataset={brought.name}: {brought.kind}, but dataset={own.name} is {own.kind}"
        )
    with session.on(brought, task=stage in LESSONS):
        if brought is not None:
            _check_brought(session, model, f"training.{stage}.dataset")
        rehearse_lesson(session, stage, model)


def _check_brought(session: Session, model: nn.Module, key: str) -> None:
    """Refuse data that a network cannot read, or whose labels are not those that it is for."""
    brought, own = session.dataset, session.task
    if brought.kind == "text":
        check_tokenizer(session.tokenizer, model, session.data.longest, pairs=len(brought.text_fields) > 1)
    ours, theirs = (data.label_names for data in (session.task_data, session.data))
    if brought.labelled and (brought.task, theirs) != (own.task, ours):
        raise ConfigError(
            f"{key}={brought.name} has other labels than dataset={own.name}: to learn from a teacher on its rows "
            f"alone, {key}.task=unlabelled"
        )


def _check_own_teacher(session: Session, model: nn.Module, stage: str) -> None:
    """Refuse a stage that is to learn from this run's float network where there will be none."""
    learnt, share = lesson(session.config, stage)
    if share == 0 or learnt.teacher is not None:
        return
    stages = session.config.training.stages
    given = "calibrate" in stages and not quantizers(model) and not set(LESSONS) & set(stages)
    kept = "float" in stages or (given and stage in ("quantized", "spiking"))
    if stage == "float" or not kept:
        raise ConfigError(
            f"training.{stage}.distill needs a teacher: the float stage before it, or distillation.teacher"
        )
    if "float" in stages and session.config.training.float.epochs > 0:
        return
    random = _random(session.config, model, head=learnt.logits > 0)
    if random:
        raise ConfigError(
            f"training.{stage}.distill={share}: of the teacher, this run's float network, {random} would be random; "
            "give model.weights, checkpoint or distillation.teacher, or train it (training.float.epochs)"
        )


def _random(config: Config, model: nn.Module, head: bool = True) -> str:
    """What of a network is random before any stage, with or without what its weights lacked; empty if nothing."""
    if config.checkpoint is None and config.model.weights is None:
        return "the whole network (model.weights=null)"
    return ", ".join(getattr(model, "untrained", ())) if head else ""


def _warn_of_chance(session: Session, model: nn.Module) -> None:
    """Say so where networks are measured whose predictions nothing trains."""
    config = session.config
    stages = [stage for stage in config.training.stages if stage not in (*LESSONS, "evaluate")]
    training = [s for s in config.training.stages if s in TRAINED and getattr(config.training, s).epochs > 0]
    if not stages or any(trains_predictions(config, stage) for stage in training):
        return
    untrained = _random(config, model)
    if untrained:
        log.warning(
            "no stage trains %s: random from the start, so that accuracies mean nothing; give model.weights or a "
            "checkpoint that is trained for this task, or a stage that trains it",
            untrained,
        )
