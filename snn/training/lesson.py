"""From a config to the objective of a stage: labels, a teacher, or both."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from snn.config import Config, DistillationConfig
from snn.conversion.checkpoint import read_description
from snn.data.schema import DatasetConfig
from snn.data.wheel import cache_folder
from snn.errors import ConfigError
from snn.evaluation.session import Session
from snn.models.rebuild import rebuilt
from snn.models.spikingbert.model import SpikingBert
from snn.models.spikingbert.teacher import initialize_from_teacher
from snn.training.distillation import DistilledObjective, reaches_head
from snn.training.objective import LabelObjective, Objective
from snn.training.teacher import Teacher, find_teacher, load_teacher
from snn.training.teacher_store import TeacherStore, fingerprint

log = logging.getLogger(__name__)

#: Stages of one recipe of distillation, each with a network for the data that it has.
LESSONS = ("general", "layers", "logits")


def lesson(config: Config, stage: str) -> tuple[DistillationConfig, float]:
    """What a stage learns from a teacher, and its share of the loss."""
    section = getattr(config.training, stage)
    chosen = section.distillation or config.distillation
    if chosen.teacher is None:
        chosen = replace(chosen, teacher=config.distillation.teacher)
    share = section.distill if section.distill is not None else float(chosen.teacher is not None)
    return chosen, share


def trains_predictions(config: Config, stage: str) -> bool:
    """Whether a stage trains the head, so that its network can be judged by labels."""
    own = getattr(config.training, stage).dataset if stage in LESSONS else None
    return (own or config.dataset).labelled and reaches_head(*lesson(config, stage))


@contextmanager
def keys_of(config: Config, stage: str) -> Iterator[None]:
    """Let an error that speaks of ``distillation.KEY`` name the stage's own section where that is what counts."""
    own = getattr(config.training, stage).distillation
    try:
        yield
    except ConfigError as error:
        if own is None:
            raise
        inherited = own.teacher in (None, config.distillation.teacher)
        key = r"(?<![\w.])distillation\." + (r"(?!teacher\b)" if inherited else "")
        raise ConfigError(re.sub(key, f"training.{stage}.distillation.", str(error))) from None


def check_lesson(session: Session, stage: str) -> None:
    """Refuse what a stage cannot learn, as far as that can be told without a look at the networks.

    Raises:
        ConfigError: No labels, a teacher that is not there, or layers of networks that have none to compare.
    """
    learnt, share = lesson(session.config, stage)
    dataset = getattr(session.config.training, stage).dataset or session.dataset
    if share < 1 and not dataset.labelled:
        raise ConfigError(
            f"dataset={dataset.name} has no labels, so training.{stage} can only learn from a teacher: "
            f"training.{stage}.distill=1, and distillation.teacher=NAME or a float network of the run"
        )
    if share > 0 and learnt.logits > 0 and learnt.weighting == "error" and dataset.task != "classification":
        raise ConfigError(
            f"distillation.weighting=error compares errors of classes; training.{stage} learns on "
            f"dataset={dataset.name}, whose task is {dataset.task}"
        )
    if share > 0 and (learnt.hidden > 0 or learnt.attention > 0):
        _refuse_layers(dataset, stage)
    if share > 0 and learnt.teacher is not None:
        with keys_of(session.config, stage):
            find_teacher(learnt.teacher, session)


def build_objective(
    session: Session, stage: str, student: nn.Module, own_teacher: Callable[[], nn.Module]
) -> Objective:
    """The objective of a stage.

    Args:
        session: With the stage's data.
        stage: Name of its section below ``training``.
        student: The network that it will train.
        own_teacher: Returns the float network of this run, for a stage that learns from that.

    Raises:
        ConfigError: A teacher that is missing, or that does not fit the student.
    """
    check_lesson(session, stage)
    learnt, share = lesson(session.config, stage)
    if share == 0:
        return LabelObjective(list(session.dataset.metrics), session.config.training)
    with keys_of(session.config, stage):
        if learnt.teacher is None:
            teacher = Teacher(own_teacher())
        else:
            teacher = load_teacher(learnt.teacher, session, logits=learnt.logits > 0)
        objective = _distilled(session, stage, student, teacher)
        if learnt.cache:
            objective.taught = stored(objective, session)
    return objective


def rehearse_lesson(session: Session, stage: str, student: nn.Module) -> None:
    """Refuse a teacher from outside that a stage could not learn from, before anything is trained.

    Args:
        session: With the stage's data.
        stage: Name of its section below ``training``.
        student: A network of the form that it will train; it is left as it is.

    Raises:
        ConfigError: A teacher that does not fit the student or the data.
        CheckpointError: It is damaged.
    """
    learnt, share = lesson(session.config, stage)
    if share == 0 or learnt.teacher is None:
        return
    # What a teacher lacks, it gets at random.
    with torch.random.fork_rng(devices=[]), keys_of(session.config, stage):
        teacher = load_teacher(learnt.teacher, session, logits=learnt.logits > 0)
        _distilled(session, stage, copy.deepcopy(student).to(session.device), teacher)


def _distilled(session: Session, stage: str, student: nn.Module, teacher: Teacher) -> DistilledObjective:
    learnt, share = lesson(session.config, stage)
    labels = None
    if session.dataset.labelled:
        labels = LabelObjective(list(session.dataset.metrics), session.config.training)
    example = next(iter(session.data.loader("train", 2)))
    example = {name: value.to(session.device) for name, value in example.items()}
    return DistilledObjective(student, teacher, learnt, share, labels, example)


def stored(objective: DistilledObjective, session: Session) -> TeacherStore:
    """The teacher's outputs for training and validation texts on disk, computed now if they are not there."""
    if session.dataset.kind != "text":
        raise ConfigError("distillation.cache: pictures vary from epoch to epoch; it is for texts")
    if session.dataset.augment_tokens:
        raise ConfigError("distillation.cache: with dataset.augment_tokens, texts vary from epoch to epoch")
    asked = [objective.numbers, objective.hidden, objective.attention, objective.teacher.classes]
    what = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]
    name = f"{fingerprint(objective.teacher.network)}-{session.data.fingerprint}-{what}"
    root = cache_folder(session.config.paths.cache)
    store = TeacherStore(root / "teachers" / name, objective.ask)
    if not store.filled:
        splits = ("train", "validation")
        lengths = [int(n) for split in splits for n in np.asarray(session.data.splits[split].lengths)]
        batches = itertools.chain.from_iterable(session.batches(split) for split in splits)
        with session.timed("teacher"):
            store.fill(batches, lengths, session.device)
    return store


def start_from_teacher(student: nn.Module, objective: Objective) -> None:
    """Copy the teacher's embeddings and layers into a student, if that is asked for.

    Raises:
        ConfigError: The student is no SpikingBERT, or the teacher no BERT of its sizes.
    """
    if not isinstance(objective, DistilledObjective) or not objective.settings.start:
        return
    if not isinstance(student, SpikingBert):
        raise ConfigError(
            "distillation.start is for model=spikingbert; other models start from weights: model.weights"
        )
    numbers = [number - 1 for number in objective.numbers] or None
    initialize_from_teacher(student, objective.teacher.network, numbers)
    log.info("the student starts from the teacher's embeddings and layers")


def fitted(model: nn.Module, session: Session) -> nn.Module:
    """A network of ``checkpoint`` with the T that is asked for, and a new head if its own was made for no labels."""
    spec, parent = model.spec, session.config.checkpoint
    assert isinstance(spec, dict)
    assert parent is not None
    wanted: dict[str, int | None] = {"T": session.config.T}
    if not read_description(parent).get("labels"):
        wanted["num_classes"] = session.data.num_classes
    network: Any = rebuilt(model, **{key: value for key, value in wanted.items() if key in spec["args"]})
    _say_what_differs(session.config, network.spec)
    return network


def _say_what_differs(config: Config, found: Mapping[str, Any]) -> None:
    """A checkpoint brings its network along, so another one, or another size, that the config names is not built."""
    pairs = {"model": (config.model.name, found["name"])}
    pairs |= {
        f"model.args.{key}": (value, found["args"].get(key, value))
        for key, value in config.model.args.items()
        if value is not None
    }
    other = [f"{key} is {own}, not {asked}" for key, (asked, own) in pairs.items() if asked != own]
    if other:
        log.warning("the network is that of checkpoint=%s: %s", config.checkpoint, "; ".join(other))


def _refuse_layers(dataset: DatasetConfig, stage: str) -> None:
    reason = None
    if stage == "spiking":
        reason = "training.spiking trains through time and learns predictions alone"
    elif dataset.kind != "text":
        reason = f"dataset={dataset.name} holds pictures, whose networks learn predictions alone"
    if reason is not None:
        raise ConfigError(f"{reason}: distillation=logits, or training.{stage}.distill=0")
