"""From a config to networks: build, quantise, set thresholds, convert, verify. What all scripts do in the same way."""

from __future__ import annotations

import copy
import logging
import sys
from dataclasses import asdict
from typing import Any

from torch import nn

from snn.conversion.call import labels_removed
from snn.conversion.convert import convert, with_levels
from snn.conversion.native_plan import native_plan
from snn.conversion.network import SpikingNetwork
from snn.conversion.newcomputebench import read_transform_config
from snn.conversion.placement import needs_example
from snn.conversion.plan import Plan, plan, traced_plan
from snn.conversion.quantize import calibrate, quantizers
from snn.conversion.rules import parse_rules
from snn.conversion.surgery import insert
from snn.conversion.training_free.correct import refuse_solved_weights
from snn.errors import ConfigError, ConversionError, did_you_mean
from snn.evaluation.parent import check_outputs, load_parent
from snn.evaluation.session import Session
from snn.evaluation.training_free import kind_of_offsets, offset, training_free
from snn.evaluation.verification import verify_network
from snn.models.preprocessing import warn_of_other_pictures
from snn.models.registry import architecture_of, create_model, list_models, spikes_by_itself
from snn.models.tokenizer import check_tokenizer, load_tokenizer, sizes_from_tokenizer
from snn.quantizers.qcfs import QCFS
from snn.quantizers.registry import ESTIMATES
from snn.tracking.files import write_json, write_text

log = logging.getLogger(__name__)


def build_model(session: Session) -> nn.Module:
    """The network that the config names, or the one of ``checkpoint``; the session gets its tokenizer."""
    config = session.config
    if config.checkpoint is not None:
        return load_parent(session)
    asked = config.model
    if session.dataset.kind == "text":
        key = "model.weights" if asked.tokenizer is None else "model.tokenizer"
        source = asked.tokenizer or asked.weights
        session.tokenizer = load_tokenizer(source, config.paths.cache, model=asked.name, key=key)
    if session.dataset.events is not None and not architecture_of(asked.name).native:
        fit = [name for name in list_models(native=True) if architecture_of(name).input_kind == "image"]
        raise ConfigError(
            f"dataset={session.dataset.name} holds frames of events, one for each time step, so it needs a network "
            f"that spikes by itself (model={', '.join(fit)}); got model={asked.name}"
        )
    data = session.data
    arguments = {key: value for key, value in asked.args.items() if value is not None}
    if session.tokenizer is not None and asked.weights is None:
        arguments = sizes_from_tokenizer(session.tokenizer, asked.name) | arguments
    if asked.activation is not None:
        arguments["activation"] = asked.activation
    if data.input_shape is not None and "in_channels" in asked.args:
        arguments.setdefault("in_channels", data.input_shape[0])
    if data.input_shape is not None and "image_size" in asked.args:
        arguments.setdefault("image_size", data.input_shape[1])
    classes = asked.num_classes if asked.num_classes is not None else data.num_classes
    check_outputs(session, classes, f"model.num_classes={classes}")
    rename = [{"match": rule.match, "to": rule.to} for rule in asked.rename]
    model = create_model(
        asked.name,
        weights=asked.weights,
        num_classes=classes,
        labels=data.label_names,
        cache_dir=config.paths.cache,
        rename=rename,
        **arguments,
    )
    pictures = architecture_of(asked.name).pictures
    if asked.weights == "pretrained" and pictures is not None:
        spec: Any = model.spec
        args = spec["args"]
        warn_of_other_pictures(args["name"], pictures(args), session.dataset, head=not model.untrained)
    if session.tokenizer is not None:
        check_tokenizer(session.tokenizer, model, data.longest, pairs=len(session.dataset.text_fields) > 1)
    if getattr(model, "input_kind", data.kind) != data.kind:
        raise ConfigError(
            f"model={asked.name} takes {model.input_kind}, but dataset={session.dataset.name} is {data.kind}"
        )
    return model.to(session.device)


def places(session: Session, model: nn.Module) -> list[Any]:
    """The rules in force: those of a transform configuration, the config's own, or the model's places.

    Raises:
        ConfigError: The model has no such coverage, or the transform configuration does not suit.
    """
    config = session.config
    if config.conversion.transform_config is not None:
        transform = read_transform_config(config.conversion.transform_config)
        report = transform.report(model)
        log.info("%s: %s", transform.where, report)
        session.summary["transform_config"] = asdict(report)
        return transform.rules(model)
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


def _rules_key(session: Session) -> str:
    """Where in the config the rules in force stand."""
    config = session.config
    if config.conversion.transform_config is not None:
        return "conversion.transform_config"
    if config.quantization.rules is not None:
        return "quantization.rules"
    return f"model.places.{config.quantization.coverage}"


def make_plan(session: Session, model: nn.Module) -> Plan:
    """What would become of every module."""
    asked = session.config.quantization
    where = _rules_key(session)
    defaults = {
        "name": asked.name,
        "levels": asked.levels or session.config.T or 8,
        "granularity": asked.granularity,
    }
    if asked.threshold is not None:
        defaults["threshold"] = asked.threshold
    elif starts_in_training(session):
        defaults["init"] = asked.init
    rules = parse_rules(places(session, model), where)
    example = next(iter(session.batches("validation", 1))) if needs_example(rules) else None
    return plan(model, rules, defaults, where, example)


def starts_in_training(session: Session) -> bool:
    """Whether thresholds are set by the first batches of quantised training, as LSQ was published."""
    stages = session.config.training.stages
    asked = session.config.quantization.init
    return "quantized" in stages and "calibrate" not in stages and asked not in ESTIMATES


def quantized(session: Session, model: nn.Module) -> nn.Module:
    """The network with quantisers inserted; unchanged if it has them."""
    if quantizers(model):
        return model
    made = make_plan(session, model)
    insert(model, made)
    log.info("%d quantisers inserted (%s)", len(made.actions), session.config.quantization.name)
    return model.to(session.device)


def rehearse_quantization(session: Session, model: nn.Module) -> None:
    """Refuse rules and quantisers that do not suit a float network, before anything is done with it.

    Args:
        session: With its data.
        model: It is left as it is.

    Raises:
        ConfigError: Places, rules or arguments of the quantiser that cannot work.
        ConversionError: The rules quantise nothing.
    """
    copied = copy.deepcopy(model)
    insert(copied, make_plan(session, copied))
    _traced(session, copied.to(session.device))


def calibrated(session: Session, model: nn.Module) -> nn.Module:
    """The network with thresholds set from training data, where neither the config nor a rule gives a number; then
    shifts and heights, where its quantisers have them."""
    asked = session.config.quantization
    batches = list(session.calibration_batches())
    calibrate(
        model,
        batches,
        init=asked.init,
        percentile=asked.percentile,
        rows=asked.rows,
        max_batches=asked.batches,
    )
    return training_free(model.eval(), batches, session.config.conversion, neuron_section(session))


def at_levels(session: Session, model: nn.Module, T: int | None) -> nn.Module:
    """The quantised network whose twin has T steps: itself, or with T levels and thresholds that follow or are kept.

    A float network, and any network where T is not said, is left as it is.
    """
    found = next(iter(quantizers(model).values()), None)
    if T is None or not isinstance(found, QCFS) or found.levels == T:
        return model
    refuse_solved_weights(model)
    session.trained = model.eval()
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
    neuron = {k: v for k, v in neuron_section(session).items() if v is not None}
    options = dict(neuron)
    name = options.pop("name")
    steps = T or config.T
    if steps is None:
        raise ConfigError("T: the checkpoint was not converted before, so it has no T; give T=")
    kind, present = config.conversion.offsets, kind_of_offsets(model)
    if kind is None and present is None and name == "integrate_fire":
        kind = session.parent_offsets  # they went with the thresholds that they suited
    if kind is not None:
        with session.timed("offsets"):
            offset(model, session.trained, list(session.calibration_batches()), kind, neuron, steps)
    network = convert(
        model.eval(), name, steps, execution=config.execution.mode, chunk=config.execution.chunk, **options
    ).to(session.device)
    network.integer = config.execution.integer
    first = next(iter(network.neurons.values()))
    session.summary.update(T=network.T, neuron=first.name, coding=network.coding)
    if hasattr(first, "order"):
        session.summary["order"] = first.order
    if name == "integrate_fire" and (kind or present):
        session.summary["offsets"] = kind or present
    text, record = describe(session, model)
    if config.conversion.verify:
        with session.timed("verify"):
            text += verify_network(session, model, network, record)
        session.summary.update({k: record[k] for k in ("verification", "attribution") if k in record})
    session.summary["plan"] = record["plan"]
    write_json(session.folder / "conversion.json", record)
    write_text(session.folder / "conversion.md", text)
    verdict = record.get("verification", {})
    if network.execution == "collapsed" and network.kind.exact == "settled" and verdict.get("unsettled", 1):
        why = (
            f"{verdict['unsettled']:,} counts would still change"
            if verdict
            else "conversion.verify=true tells"
        )
        raise ConversionError(
            f"execution=collapsed gives what neuron={name} settles at, so T={network.T} has to be long enough for that "
            f"({why}); use execution=stepwise, or a larger T"
        )
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
    asked = {key: value for key, value in asked.items() if value is not None}
    saved = dict(session.parent_neuron)
    if not saved:
        raise ConfigError(
            "neuron: the checkpoint was not converted before; give neuron=, such as neuron=para_inf"
        )
    return {
        "name": saved.pop("neuron"),
        **{k: v for k, v in saved.items() if k not in ("T", "execution", "chunk")},
        **asked,
    }


def describe(session: Session, model: nn.Module) -> tuple[str, dict[str, Any]]:
    """The plan of a quantised network and what feeds its matrix products, as Markdown and as plain types."""
    made = _traced(session, model)
    assert made.trace is not None
    counts: dict[str, int] = {}
    for step in made.actions:
        counts[step.do] = counts.get(step.do, 0) + 1
    record = {"spiking_layers": len(made.actions), "modules": len(made.steps), "counts": counts}
    record |= {"spiking_share": made.trace.spiking_share, "verdict": made.trace.verdict}
    table = made.table()
    session.trackers.table("plan", table.columns, table.cells())
    text = f"# Conversion\n\n## Plan\n\n{table.to_markdown()}"
    return text, {"plan": record, "operands": made.trace.to_dict()}


def print_plan(session: Session, model: nn.Module) -> None:
    """Print what every module becomes, or what it takes where it spikes already; nothing is trained."""
    if spikes_by_itself(model):
        batch = labels_removed(next(iter(session.batches("validation", 1))))
        inputs = {key: value.to(session.device) for key, value in batch.items()}
        sys.stdout.write(f"{native_plan(model.eval(), inputs)}\n")
        return
    sys.stdout.write(f"{_traced(session, quantized(session, model))}\n")


def _traced(session: Session, model: nn.Module) -> Plan:
    return traced_plan(model, next(iter(session.batches("validation", 1))), _rules_key(session))
