"""From a config to networks: build, quantise, set thresholds, convert, verify. What all scripts do in the same way."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snn.conversion.attribution import attribute
from snn.conversion.checkpoint import find_checkpoint, load_checkpoint, read_description
from snn.conversion.convert import convert, with_levels
from snn.conversion.network import SpikingNetwork
from snn.conversion.plan import Plan, plan
from snn.conversion.quantize import calibrate, insert, quantizers
from snn.conversion.trace import trace
from snn.conversion.verify import verify
from snn.errors import CheckpointError, ConfigError, ConversionError, did_you_mean
from snn.evaluation.session import Session, merge_dataset
from snn.models.registry import create_model
from snn.models.tokenizer import check_tokenizer, load_tokenizer
from snn.tracking.files import write_json, write_text

log = logging.getLogger(__name__)


def build_model(session: Session) -> nn.Module:
    """The network that the config names, or the one of ``checkpoint``; the session gets its tokenizer."""
    config = session.config
    if config.checkpoint is not None:
        return load_parent(session)
    asked = config.model
    if session.dataset.kind == "text":
        session.tokenizer = load_tokenizer(asked.tokenizer or asked.weights, config.paths.cache)
    data = session.data
    arguments = {key: value for key, value in asked.args.items() if value is not None}
    if data.input_shape is not None and "in_channels" in asked.args:
        arguments.setdefault("in_channels", data.input_shape[0])
    classes = asked.num_classes if asked.num_classes is not None else data.num_classes
    if classes < data.num_classes:
        raise ConfigError(
            f"model.num_classes={classes}, but dataset={session.dataset.name} has {data.num_classes} classes"
        )
    rename = [{"match": rule.match, "to": rule.to} for rule in asked.rename]
    model = create_model(
        asked.name,
        weights=asked.weights,
        num_classes=classes,
        cache_dir=config.paths.cache,
        rename=rename,
        **arguments,
    )
    if session.tokenizer is not None:
        check_tokenizer(session.tokenizer, model)
    if getattr(model, "input_kind", data.kind) != data.kind:
        raise ConfigError(
            f"model={asked.name} takes {model.input_kind}, but dataset={session.dataset.name} is {data.kind}"
        )
    return model.to(session.device)


def load_parent(session: Session) -> nn.Module:
    """The float or quantised network of ``checkpoint``, with its data set and tokenizer.

    Raises:
        CheckpointError: Missing or damaged.
    """
    config = session.config
    assert config.checkpoint is not None
    folder = find_checkpoint(config.checkpoint)
    description = read_description(folder)
    restore_data(session, folder)
    model = load_checkpoint(folder, session.device, spiking=False)
    classes = len(description.get("labels") or [])
    if classes and classes != session.data.num_classes:
        raise ConfigError(
            f"dataset={session.dataset.name} has {session.data.num_classes} classes, but the checkpoint has {classes}"
        )
    session.summary["model"] = description["model"]["name"]
    saved = description.get("neuron") or {}
    session.parent_neuron = saved
    return model


def restore_data(session: Session, folder: Path) -> None:
    """Give the session the data set and tokenizer of a checkpoint, unless the config names a data set.

    Raises:
        CheckpointError: It does not say what they were.
    """
    config = session.config
    about = read_description(folder).get("about") or {}
    if config.dataset.name == "from_checkpoint" and "dataset" not in about:
        raise CheckpointError(f"checkpoint={folder} does not say what it was trained on: give dataset=")
    session.dataset = merge_dataset(about.get("dataset") or {}, config.dataset)
    if (folder / "tokenizer_config.json").exists():
        session.tokenizer = load_tokenizer(str(folder), config.paths.cache)
    elif session.dataset.kind == "text":
        raise CheckpointError(
            f"checkpoint={folder} holds no tokenizer, and dataset={session.dataset.name} is text"
        )


def places(session: Session, model: nn.Module) -> list[Any]:
    """The rules in force: the config's own, or the model's places for the coverage.

    Raises:
        ConfigError: The model has no such coverage.
    """
    config = session.config
    if config.quantization.rules is not None:
        return list(config.quantization.rules)
    known = config.model.places
    coverage = config.quantization.coverage
    if coverage not in known:
        raise ConfigError(
            f"quantization.coverage: model={config.model.name} has no places called {coverage!r}; "
            f"{did_you_mean(coverage, known)}. Or give quantization.rules"
        )
    return list(known[coverage])


def make_plan(session: Session, model: nn.Module) -> Plan:
    """What would become of every module."""
    asked = session.config.quantization
    where = "quantization.rules" if asked.rules is not None else f"model.places.{asked.coverage}"
    defaults = {
        "name": asked.name,
        "levels": asked.levels or session.config.T or 8,
        "granularity": asked.granularity,
    }
    if asked.threshold is not None:
        defaults["threshold"] = asked.threshold
        defaults["granularity"] = "tensor"
    return plan(model, places(session, model), defaults, where)


def quantized(session: Session, model: nn.Module) -> nn.Module:
    """The network with quantisers inserted; unchanged if it has them."""
    if quantizers(model):
        return model
    made = make_plan(session, model)
    insert(model, made)
    log.info("%d quantisers inserted (%s)", len(made.actions), session.config.quantization.name)
    return model.to(session.device)


def calibrated(session: Session, model: nn.Module) -> nn.Module:
    """The network with thresholds set from training data, unless the config gives a number."""
    asked = session.config.quantization
    if asked.threshold is not None:
        return model.eval()
    calibrate(
        model,
        session.calibration_batches(),
        init=asked.init,
        percentile=asked.percentile,
        rows=asked.rows,
        max_batches=asked.batches,
    )
    return model.eval()


def at_levels(session: Session, model: nn.Module, T: int) -> nn.Module:
    """The quantised network whose twin has T steps: itself, or with T levels and thresholds that follow or are kept."""
    found = next(iter(quantizers(model).values()))
    if found.name != "qcfs" or found.levels == T:
        return model
    changed = with_levels(model, T)
    if session.config.conversion.thresholds == "follow":
        log.info("levels: %d trained, %d now; thresholds are set anew from training data", found.levels, T)
        return calibrated(session, changed)
    log.info("levels: %d trained, %d now; thresholds are kept", found.levels, T)
    return changed


def convert_and_verify(session: Session, model: nn.Module, T: int | None = None) -> SpikingNetwork:
    """The spiking network, compared with the quantised one; writes ``conversion.md``, ``.json`` and ``.csv``.

    Raises:
        ConversionError: Beyond the tolerance of the method.
    """
    config = session.config
    options = {k: v for k, v in neuron_section(session).items() if v is not None}
    name = options.pop("name")
    steps = T or config.T
    if steps is None:
        raise ConfigError("T: the checkpoint was not converted before, so it has no T; give T=")
    network = convert(
        model.eval(), name, steps, execution=config.execution.mode, chunk=config.execution.chunk, **options
    ).to(session.device)
    first = next(iter(network.neurons.values()))
    session.summary.update(T=network.T, neuron=first.name, coding=network.coding)
    if hasattr(first, "order"):
        session.summary["order"] = first.order
    text, record = describe(session, model)
    if config.conversion.verify:
        with session.timed("verify"):
            text += _verify(session, model, network, record)
        session.summary.update({k: record[k] for k in ("verification", "attribution") if k in record})
    session.summary["plan"] = record["plan"]
    write_json(session.folder / "conversion.json", record)
    write_text(session.folder / "conversion.md", text)
    verdict = record.get("verification", {})
    if verdict and not verdict["passed"]:
        raise ConversionError(f"verification: {verdict['verdict']} (see {session.folder / 'conversion.md'})")
    return network


def neuron_section(session: Session) -> dict[str, Any]:
    """The neuron that is asked for, or the checkpoint's.

    Raises:
        ConfigError: Neither says.
    """
    asked = dict(session.config.neuron)
    if asked.get("name") is not None:
        return asked
    saved = dict(session.parent_neuron)
    if not saved:
        raise ConfigError(
            "neuron: the checkpoint was not converted before; give neuron=, such as neuron=para_inf"
        )
    return {
        "name": saved.pop("neuron"),
        **{k: v for k, v in saved.items() if k not in ("T", "execution", "chunk")},
    }


def _verify(session: Session, model: nn.Module, network: SpikingNetwork, record: dict[str, Any]) -> str:
    """Compare the networks, and say where an inexact one loses; adds to ``record``, returns Markdown."""
    asked = session.config.conversion
    dtype = None if asked.verify_dtype is None else getattr(torch, asked.verify_dtype, None)
    if asked.verify_dtype is not None and not isinstance(dtype, torch.dtype):
        raise ConfigError(
            f"conversion.verify_dtype: unknown type {asked.verify_dtype!r}; choices: float32, float64"
        )
    loader = session.batches("validation", asked.verify_batch_size)
    taken = [batch for batch, _ in zip(loader, range(asked.verify_batches))]
    batches = [{k: v.to(session.device) for k, v in batch.items()} for batch in taken]
    report = verify(
        model,
        network,
        batches,
        dtype=dtype,
        tolerance=asked.tolerance,
        max_error=asked.max_error,
        min_agreement=asked.min_agreement,
        require_settled=asked.require_settled,
    )
    log.log(logging.WARNING if report.unsettled else logging.INFO, "verification: %s", report.verdict)
    record["verification"] = report.to_dict()
    write_text(session.folder / "conversion.csv", report.to_csv())
    text = "\n## Verification\n\n" + report.to_markdown()
    if asked.attribute or (asked.attribute is None and not report.exact):
        found = attribute(model, network, batches)
        log.info("attribution: %s", found.verdict)
        record["attribution"] = found.to_dict()
        text += "\n## Where accuracy is lost\n\n" + found.to_markdown()
    return text


def describe(session: Session, model: nn.Module) -> tuple[str, dict[str, Any]]:
    """The plan of a quantised network and what feeds its matrix products, as Markdown and as plain types."""
    operands = trace(model, next(iter(session.batches("validation", 1))))
    made = getattr(model, "plan", None)
    if not isinstance(made, Plan):
        made = Plan((), ())
    head = "| module | type | rule | action |\n|---|---|---:|---|\n"
    rows = "\n".join(f"| `{r[0]}` | {r[1]} | {r[2]} | {r[3]} |" for r in made.rows(everything=True))
    counts: dict[str, int] = {}
    for step in made.actions:
        counts[step.do] = counts.get(step.do, 0) + 1
    record = {"spiking_layers": len(made.actions), "modules": len(made.steps), "counts": counts}
    record |= {"spiking_share": operands.spiking_share, "verdict": operands.verdict}
    text = f"# Conversion\n\n## Plan\n\n{head}{rows}\n\n## What is spikes, what is analog\n\n{operands.to_markdown()}\n"
    return text, {"plan": record, "operands": operands.to_dict()}


def print_plan(session: Session, model: nn.Module) -> None:
    """Print what every module becomes; nothing is trained."""
    made = model.plan if quantizers(model) else make_plan(session, model)
    operands = trace(quantized(session, model), next(iter(session.batches("validation", 1))))
    sys.stdout.write(f"{made}\n\n{operands.verdict}\n")
