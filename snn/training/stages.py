"""What the stages of a training run do, each with the network that the one before it left."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from snn.conversion.network import SpikingNetwork
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.offsets import drop_offsets
from snn.evaluation.build import calibrated, convert_and_verify, quantized
from snn.evaluation.session import seed_everything
from snn.evaluation.training_free import kind_of_offsets
from snn.models.registry import spikes_by_itself
from snn.training.lesson import LESSONS, trains_predictions
from snn.training.through_time import ThroughTime

if TYPE_CHECKING:
    from snn.training.experiment import Experiment

log = logging.getLogger(__name__)

#: Stages that train a network as it is, neither quantised nor converted.
PLAIN = ("float", *LESSONS, "native")
#: Names of the networks that stages leave, in the order in which they come about.
NETWORKS = ("float", *LESSONS, "calibrated", "quantized", "native")


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
    model = quantized(experiment.session, experiment.latest())
    if kind_of_offsets(model) is not None:
        log.warning("offsets of the checkpoint are dropped, as training changes what they make up for")
        drop_offsets(model)
    # What the checkpoint's layers do is not what those of the network that is trained here ought to do.
    experiment.session.parent_offsets = experiment.session.trained = None
    experiment.train("quantized", model)


def convert_network(experiment: Experiment) -> None:
    """Replace quantisers by neurons and verify; writes the run's checkpoint."""
    session = experiment.session
    experiment.spiking = convert_and_verify(session, experiment.latest())
    experiment.keep_result(experiment.spiking)


def train_spiking(experiment: Experiment) -> None:
    """Train the spiking network itself, through time, if any epochs of that are asked for."""
    stage = experiment.config.training.spiking
    if stage.epochs == 0:
        return
    assert experiment.spiking is not None
    if not experiment.done("spiking"):
        experiment.train(
            "spiking",
            ThroughTime(experiment.spiking),
            lambda through: cast(ThroughTime, through).trained(),
        )
    experiment.converted = experiment.spiking
    experiment.spiking = cast(SpikingNetwork, experiment.load("spiking"))
    experiment.keep_result(experiment.spiking)


def train_native(experiment: Experiment) -> None:
    """Train a network that spikes by itself."""
    if not experiment.done("native"):
        experiment.train("native", experiment.latest())
    experiment.keep_result(experiment.load("native"), "native")


def train_lesson(experiment: Experiment, name: str) -> None:
    """One of several stages of distillation in a row, whose network is for the data that it has."""
    if not experiment.done(name):
        # So that a stage does not depend on how much chance the stages before it took.
        seed_everything(experiment.config.seed)
        experiment.train(name, experiment.latest())
    with experiment.data_of(name):
        experiment.keep_result(experiment.load(name), name)


def evaluate_networks(experiment: Experiment) -> None:
    """Measure every network of the run on the test split, which nothing has seen before."""
    session, present = experiment.session, experiment.present()
    session.summary["split"] = split = session.evaluated_split()
    results = session.summary.setdefault("results", {})
    measured = float_measured = None
    latest = [name for name in present if name in PLAIN][-1:]
    for name in present:
        if name in LESSONS and name not in latest:
            continue  # on its way to the last of them
        model = experiment.load(name)
        trained = name in session.config.training.stages
        if trained and name in latest and not trains_predictions(session.config, name):
            experiment.measure_lesson(name, model, split)
            continue
        measured = session.measure(name, model, split)
        float_measured = measured if name == "float" else float_measured
        if spikes_by_itself(model) and name in PLAIN:
            session.record_spiking(model, measured, None)
        else:
            results[_label(name)] = measured.to_dict()
    if experiment.converted is not None:  # the spiking network has left its quantised twin behind
        results["converted"] = session.measure("converted", experiment.converted, split).to_dict()
        measured = None
    if experiment.spiking is not None:
        spiking = session.measure("spiking", experiment.spiking, split)
        session.record_spiking(experiment.spiking, spiking, measured)
        if float_measured is not None:
            same = spiking.agreement(float_measured)
            results["spiking"]["agreement_with_float"] = same
            log.info(
                "same prediction as the float network: %d of %d", same["same_prediction"], same["samples"]
            )


def _label(name: str) -> str:
    """What results call a network that does not spike by itself."""
    return "float" if name in PLAIN else name


STAGES: dict[str, Callable[[Experiment], None]] = {
    "float": train_float,
    **{name: partial(train_lesson, name=name) for name in LESSONS},
    "calibrate": calibrate_thresholds,
    "quantized": train_quantized,
    "convert": convert_network,
    "spiking": train_spiking,
    "native": train_native,
    "evaluate": evaluate_networks,
}
