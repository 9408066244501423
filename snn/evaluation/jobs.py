"""What ``convert.py`` and ``evaluate.py`` do with a checkpoint."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from snn.checks import check_pair
from snn.config import Config
from snn.conversion.checkpoint import save_checkpoint
from snn.conversion.quantize import quantizers
from snn.errors import ConversionError
from snn.evaluation.analyses import create_analysis
from snn.evaluation.build import (
    at_levels,
    calibrated,
    convert_and_verify,
    neuron_section,
    print_plan,
    quantized,
)
from snn.evaluation.export import check_network, check_neuron, export
from snn.evaluation.parent import load_finished
from snn.evaluation.session import Session, open_session
from snn.models.rebuild import rebuilt
from snn.models.registry import spikes_by_itself


def convert_checkpoint(config: Config, folder: Path) -> float:
    """Convert a trained network, verify it and write the spiking checkpoint.

    Returns:
        Largest difference of the logits at T that verification found; 0 if it was switched off.
    """
    with open_session(config, folder, "convert") as session:
        model = load_finished(session)
        if spikes_by_itself(model):
            if config.export:
                export(session, model.eval())
                return 0.0
            raise ConversionError(
                f"checkpoint={config.checkpoint} spikes by itself: there is nothing to convert"
            )
        if config.export:
            check_neuron(neuron_section(session)["name"])
        if config.plan:
            print_plan(session, model)
            return 0.0
        model, T = _network_for(session, model)
        if config.export:
            check_network(session, model)
        network = convert_and_verify(session, model, T)
        save_checkpoint(
            network,
            folder / "checkpoint",
            tokenizer=session.tokenizer,
            labels=session.data.label_names,
            about=session.about(),
        )
        if config.export:
            export(session, network)
        return float(session.summary.get("verification", {}).get("max_error", 0.0))


def evaluate_checkpoint(config: Config, folder: Path) -> float:
    """Measure a trained network at T steps, the quantised one of T levels beside it.

    Returns:
        What the spiking network is judged by: the first metric of the data set.
    """
    with open_session(config, folder, "evaluate") as session:
        model = load_finished(session)
        if config.plan:
            print_plan(session, model)
            return 0.0
        session.summary["split"] = split = session.evaluated_split()
        analysis = create_analysis(config.analysis)
        if analysis is not None:
            analysis.check(session)
        if spikes_by_itself(model):
            if analysis is not None and not analysis.native:
                raise ConversionError(
                    f"analysis={config.analysis['name']} is for converted networks; this one spikes by itself"
                )
            if config.T is not None:
                model = rebuilt(model, T=config.T)
            found = session.measure("spiking", model, split)
            session.record_spiking(model, found, None)
            if analysis is not None:
                analysis.run(session, model.eval())
            return found.score
        model, T = _network_for(session, model)
        ann = session.measure("quantized", model, split) if config.evaluation.ann else None
        if ann is not None:
            session.summary["results"] = {"quantized": ann.to_dict()}
        network = convert_and_verify(session, model, T)
        found = session.measure("spiking", network, split)
        session.record_spiking(network, found, ann)
        if analysis is not None:
            analysis.run(session, network)
        return found.score


def _network_for(session: Session, model: nn.Module) -> tuple[nn.Module, int | None]:
    """The quantised network to convert, and T: as asked, or as the checkpoint was converted."""
    T = session.config.T or session.parent_neuron.get("T")
    present = next(iter(quantizers(model).values()), None)
    wanted = present.name if present is not None else session.config.quantization.name
    check_pair(neuron_section(session)["name"], wanted, session.config)
    if not quantizers(model):
        if session.config.model.name == "from_checkpoint" and session.config.quantization.rules is None:
            raise ConversionError(
                f"checkpoint={session.config.checkpoint} holds a float network without quantisers: "
                "name its places with model=NAME (of the same architecture) or quantization.rules"
            )
        model = calibrated(session, quantized(session, model))
    if session.parent_neuron.get("T") == T:
        return model, T  # as it was converted, whatever the levels that it was trained with
    return at_levels(session, model, T), T
