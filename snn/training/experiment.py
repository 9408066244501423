"""One training run: its stages in order, each leaving a checkpoint that the next one starts from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from snn.config import Config
from snn.conversion.checkpoint import (
    DESCRIPTION,
    find_checkpoint,
    load_checkpoint,
    read_description,
    save_checkpoint,
)
from snn.conversion.network import SpikingNetwork
from snn.evaluation.build import at_levels, build_model, print_plan
from snn.evaluation.parent import restore_data
from snn.evaluation.session import Session, open_session
from snn.training.distillation import DistilledObjective, copy_adapter, load_adapter, save_adapter
from snn.training.later_stages import check_later_stages
from snn.training.lesson import LESSONS, build_objective, fitted, start_from_teacher
from snn.training.loop import Trainer
from snn.training.objective import Objective
from snn.training.resume import read_progress
from snn.training.run_folder import refuse_other_run, resumed_config
from snn.training.stages import NETWORKS, STAGES

log = logging.getLogger(__name__)


def run(config: Config, folder: Path) -> float:
    """Train, convert and evaluate as the config says.

    Args:
        config: The checked config.
        folder: The run's folder. In one that holds networks a run goes on, with ``resume`` or with the same config.

    Returns:
        What the spiking network is judged by on the test split, or, if it was not evaluated, the best that
        the last stage that trained had on validation.
    """
    if config.resume is not None:
        config = resumed_config(config, folder)
    else:
        refuse_other_run(config, folder)
    progress = read_progress(folder / "resume")
    step = progress["step"] if progress else None
    with open_session(config, folder, "train", resume_step=step) as session:
        session.summary["resume"] = f"python train.py resume={folder}"
        experiment = Experiment(session, step or 0)
        if config.plan:
            print_plan(session, experiment.start())
            return 0.0
        for stage in config.training.stages:
            log.info("stage: %s", stage)
            with session.timed(stage):
                STAGES[stage](experiment)
        del session.summary["resume"]
        shutil.rmtree(
            folder / "resume", ignore_errors=True
        )  # thrice the size of the network, and nothing is left to do
        return experiment.result()


class Experiment:
    """What the stages share: the session, the networks so far, and where they lie.

    Args:
        session: The open session.
        step: Optimiser steps made before a resumption.
    """

    def __init__(self, session: Session, step: int = 0):
        self.session, self.config, self.step = session, session.config, step
        self.spiking: SpikingNetwork | None = None
        #: The spiking network as it was converted, if it has been trained after that.
        self.converted: SpikingNetwork | None = None
        self.best: dict[str, float] = {}

    def folder(self, name: str) -> Path:
        return self.session.folder / "stages" / name

    def start(self) -> nn.Module:
        """The network that the first stage gets; what the later ones need is asked for now."""
        model = build_model(self.session)
        if self.config.checkpoint is not None:
            model = fitted(model, self.session)
        check_later_stages(self.session, model)
        return model

    def latest(self) -> nn.Module:
        """The network that the last finished stage left, or the one to start from."""
        for name in reversed(NETWORKS):
            if (self.folder(name) / DESCRIPTION).exists():
                return self.load(name)
        return at_levels(self.session, self.start(), self.config.T)

    def load(self, name: str) -> nn.Module:
        if not self.session.has_data:  # a resumed run: the stages before know their data and tokenizer
            restore_data(self.session, self.folder(name))
        return load_checkpoint(self.folder(name), self.session.device)

    def present(self) -> list[str]:
        return [name for name in NETWORKS if (self.folder(name) / DESCRIPTION).exists()]

    def keep(self, name: str, model: nn.Module, **about: Any) -> None:
        session = self.session
        session.summary.setdefault("validation", {}).update({name: about} if about else {})
        save_checkpoint(
            model,
            self.folder(name),
            tokenizer=session.tokenizer,
            labels=session.task_data.label_names,
            about=session.about(stage=name, parent=self.ancestor(name), validation=about or None),
        )

    def done(self, name: str) -> bool:
        """Whether a stage had finished before a resumption; says so."""
        marker = self.folder(name) / DESCRIPTION
        progress = read_progress(self.session.folder / "resume")
        busy = progress is not None and progress["stage"] == name
        if not marker.exists() or busy:
            return False
        found = yaml.safe_load(marker.read_text("utf-8"))["about"].get("validation")
        self.session.summary.setdefault("validation", {}).update({name: found} if found else {})
        log.info("%s: done before", name)
        return True

    def train(
        self,
        name: str,
        model: nn.Module,
        finished: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> None:
        """Train a stage on its own data, if it brings any, and leave its best network, ``finished`` for keeping."""
        session, stage = self.session, getattr(self.config.training, name)

        def keep(network: nn.Module, **about: Any) -> None:
            self.keep(name, finished(network), **about)
            save_adapter(objective, self.folder(name))

        def keep_best(network: nn.Module) -> None:
            at = trainer.progress
            keep(network, **{objective.metric: objective.value(at.best)}, epoch=at.best_epoch)

        with self.data_of(name):
            objective = self.objective(name, model)
            load_adapter(objective, self.parent(name))
            start_from_teacher(model, objective)
            trainer = Trainer(
                name,
                model,
                session.data,
                self.config,
                stage,
                session.trackers,
                session.folder / "resume",
                self.step,
                objective,
                keep_best,
            )
            at = trainer.run()
            self.step = at.step
            if stage.epochs == 0:
                keep(model)
            else:
                self.best[name] = found = objective.value(at.best)
                session.summary.setdefault("validation", {})[name] = {
                    objective.metric: found,
                    "epoch": at.best_epoch,
                }

    def objective(self, name: str, model: nn.Module) -> Objective:
        """What a stage minimises and is judged by."""
        return build_objective(self.session, name, model, partial(self.load, "float"))

    def measure_lesson(self, name: str, model: nn.Module, split: str) -> None:
        """Say how near a network has come to its teacher: its predictions mean nothing yet."""
        session = self.session
        with self.data_of(name):
            objective = self.objective(name, model)
            assert isinstance(objective, DistilledObjective)
            load_adapter(objective, self.folder(name))
            with session.timed(f"evaluate {name}"):
                found = objective.measure(model, session.batches(split))
        session.summary["distillation"] = {"stage": name, "split": split, **found}
        parts = ", ".join(f"{part} {value:.4f}" for part, value in found.items())
        log.info("%s on %s, difference from the teacher: %s", name, split, parts)

    def parent(self, name: str) -> Path | None:
        """The checkpoint that a stage started from: of the stage before it, or the one that the run started from."""
        before = [other for other in self.present() if other != name]
        if before:
            return self.folder(before[-1])
        return find_checkpoint(self.config.checkpoint) if self.config.checkpoint else None

    def ancestor(self, name: str) -> dict[str, Any] | None:
        """Which checkpoint a stage started from, and the hash of the config that it was made with."""
        folder = self.parent(name)
        if folder is None:
            return None
        made = (read_description(folder).get("about") or {}).get("lineage") or {}
        return {"checkpoint": str(folder), "config_hash": made.get("config_hash")}

    def keep_result(self, network: nn.Module, stage: str | None = None) -> None:
        """Write the run's checkpoint: what its last stage left.

        Args:
            network: To be kept.
            stage: Where it comes from, unless it was converted.
        """
        session, folder = self.session, self.session.folder / "checkpoint"
        ancestry = {} if stage is None else {"stage": stage, "parent": self.ancestor(stage)}
        save_checkpoint(
            network,
            folder,
            tokenizer=session.tokenizer,
            labels=session.data.label_names,
            about=session.about(**ancestry, validation=session.summary.get("validation")),
        )
        if stage is not None:
            copy_adapter(self.folder(stage), folder)

    def data_of(self, stage: str) -> AbstractContextManager[None]:
        """Inside, the session has the data set of a stage that brings its own."""
        return self.session.on(getattr(self.config.training, stage).dataset, task=stage in LESSONS)

    def result(self) -> float:
        results = self.session.summary.get("results", {})
        if "spiking" in results:
            return float(results["spiking"]["metrics"][self.session.dataset.metrics[0]])
        return next(reversed(self.best.values()), 0.0)
