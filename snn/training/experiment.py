"""One training run: its stages in order, each leaving a checkpoint that the next one starts from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from torch import nn

from snn.checks import check
from snn.config import Config, typed
from snn.conversion.checkpoint import DESCRIPTION, load_checkpoint, save_checkpoint
from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.errors import CheckpointError, ConfigError, ConversionError
from snn.evaluation.build import (
    build_model,
    calibrated,
    convert_and_verify,
    print_plan,
    quantized,
    restore_data,
    starts_in_training,
)
from snn.evaluation.session import Session, open_session
from snn.models.registry import spikes_by_itself
from snn.training.loop import Trainer
from snn.training.resume import read_progress
from snn.training.through_time import ThroughTime

log = logging.getLogger(__name__)

#: Names of the networks that stages leave, in the order in which they come about.
NETWORKS = ("float", "calibrated", "quantized", "native")


def run(config: Config, folder: Path) -> float:
    """Train, convert and evaluate as the config says.

    Args:
        config: The checked config.
        folder: The run's folder; with ``resume`` the one to go on in.

    Returns:
        What the spiking network is judged by on the test split, or validation's best if it was not evaluated.
    """
    if config.resume is not None:
        config = resumed_config(config, folder)
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
        """The network that the first stage gets."""
        return build_model(self.session)

    def latest(self) -> nn.Module:
        """The network that the last finished stage left, or the one to start from."""
        for name in reversed(NETWORKS):
            if (self.folder(name) / DESCRIPTION).exists():
                return self.load(name)
        return self.start()

    def load(self, name: str) -> nn.Module:
        if "data" not in vars(self.session):  # a resumed run: the stages before know their data and tokenizer
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
            labels=session.data.label_names,
            about=session.about(stage=name, validation=about or None),
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
        teacher: nn.Module | None = None,
        finished: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> None:
        """Train a stage and leave its best network, ``finished`` for keeping."""
        session, stage = self.session, getattr(self.config.training, name)
        data, metric = session.data, session.dataset.metrics[0]
        trainer = Trainer(
            name,
            model,
            data,
            self.config,
            stage,
            session.trackers,
            session.folder / "resume",
            self.step,
            teacher,
            lambda best: self.keep(
                name, finished(best), **{metric: trainer.progress.best}, epoch=trainer.progress.best_epoch
            ),
        )
        at = trainer.run()
        self.step = at.step
        if stage.epochs == 0:
            self.keep(name, finished(model))
        else:
            self.best[name] = at.best
            session.summary.setdefault("validation", {})[name] = {metric: at.best, "epoch": at.best_epoch}

    def teacher(self, distill: float, stage: str) -> nn.Module | None:
        """The float network, if a stage learns from it."""
        if distill == 0:
            return None
        if "float" not in self.present():
            raise ConfigError(f"training.{stage}.distill needs the float stage: it is the teacher")
        return self.load("float")

    def keep_result(self, network: nn.Module) -> None:
        """Write the run's checkpoint: the spiking network."""
        session = self.session
        save_checkpoint(
            network,
            session.folder / "checkpoint",
            tokenizer=session.tokenizer,
            labels=session.data.label_names,
            about=session.about(validation=session.summary.get("validation")),
        )

    def result(self) -> float:
        results = self.session.summary.get("results", {})
        if "spiking" in results:
            return float(results["spiking"]["metrics"][self.session.dataset.metrics[0]])
        return max(self.best.values(), default=0.0)


def train_float(experiment: Experiment) -> None:
    """Fine-tune the float network."""
    if not experiment.done("float"):
        experiment.train("float", experiment.start())


def calibrate_thresholds(experiment: Experiment) -> None:
    """Insert quantisers and set their thresholds from training data, without training."""
    if experiment.done("calibrated"):
        return
    model = experiment.latest()
    if not experiment.present() and not quantizers(model):
        experiment.keep("float", model)  # trained elsewhere; what the others are compared with
    model = calibrated(experiment.session, quantized(experiment.session, model))
    found = experiment.session.measure("calibrated", model, "validation")
    experiment.keep("calibrated", model, **found.metrics)


def train_quantized(experiment: Experiment) -> None:
    """Train the quantised network, its thresholds too."""
    if experiment.done("quantized"):
        return
    model = experiment.latest()
    if not quantizers(model):
        if not starts_in_training(experiment.session):
            raise ConfigError(
                "training.stages: quantized needs calibrate before it, a quantised checkpoint to start from, or "
                "thresholds that start in training (quantization.init=first_batch or ema20)"
            )
        model = quantized(experiment.session, model)
    distill = experiment.config.training.quantized.distill
    experiment.train("quantized", model, experiment.teacher(distill, "quantized"))


def convert_network(experiment: Experiment) -> None:
    """Replace quantisers by neurons and verify; writes the run's checkpoint."""
    session = experiment.session
    model = experiment.latest()
    if not quantizers(model):
        raise ConversionError("training.stages: convert needs a quantised network: put calibrate before it")
    experiment.spiking = convert_and_verify(session, model)
    experiment.keep_result(experiment.spiking)


def train_spiking(experiment: Experiment) -> None:
    """Train the spiking network itself, through time, if any epochs of that are asked for."""
    stage = experiment.config.training.spiking
    if stage.epochs == 0:
        return
    if experiment.spiking is None:
        raise ConfigError("training.stages: spiking needs convert before it")
    if not experiment.done("spiking"):
        experiment.train(
            "spiking",
            ThroughTime(experiment.spiking),
            experiment.teacher(stage.distill, "spiking"),
            lambda through: cast(ThroughTime, through).trained(),
        )
    experiment.converted = experiment.spiking
    experiment.spiking = cast(SpikingNetwork, experiment.load("spiking"))
    experiment.keep_result(experiment.spiking)


def train_native(experiment: Experiment) -> None:
    """Train a network that spikes by itself."""
    if not experiment.done("native"):
        model = experiment.start()
        if not spikes_by_itself(model):
            raise ConfigError(
                "training.stages: native is for networks that spike by themselves; "
                f"model={experiment.config.model.name} is converted (conversion=direct)"
            )
        experiment.train("native", model)
    experiment.keep_result(experiment.load("native"))


def evaluate_networks(experiment: Experiment) -> None:
    """Measure every network of the run on the test split, which nothing has seen before."""
    session = experiment.session
    split = session.config.evaluation.split
    session.summary["split"] = split
    results = session.summary.setdefault("results", {})
    measured = None
    for name in experiment.present():
        measured = session.measure(name, experiment.load(name), split)
        results["spiking" if name == "native" else name] = measured.to_dict()
    if experiment.converted is not None:  # the spiking network has left its quantised twin behind
        results["converted"] = session.measure("converted", experiment.converted, split).to_dict()
        measured = None
    if experiment.spiking is not None:
        spiking = session.measure("spiking", experiment.spiking, split)
        session.record_spiking(experiment.spiking, spiking, measured)


STAGES: dict[str, Callable[[Experiment], None]] = {
    "float": train_float,
    "calibrate": calibrate_thresholds,
    "quantized": train_quantized,
    "convert": convert_network,
    "spiking": train_spiking,
    "native": train_native,
    "evaluate": evaluate_networks,
}


def resumed_config(config: Config, folder: Path) -> Config:
    """The config that the run in ``folder`` was started with.

    Raises:
        CheckpointError: The folder holds no run.
        ConfigError: It was started with something else that no longer exists.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise CheckpointError(f"resume={folder}: no config.yaml there, so no run of train.py")
    try:
        saved = OmegaConf.load(path)
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"resume={folder}: config.yaml cannot be read: {reason}") from error
    assert isinstance(saved, DictConfig)
    result = typed(saved)
    result.resume = config.resume
    check(result, "train")
    return result
