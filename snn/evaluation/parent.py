"""What a run starts from: the network of a checkpoint, its data set and tokenizer, and what does not go with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from snn.conversion.checkpoint import find_checkpoint, load_checkpoint, read_description
from snn.conversion.quantize import quantizers
from snn.errors import CheckpointError, ConfigError
from snn.evaluation.restored_data import merge_dataset, said_about
from snn.evaluation.session import Session
from snn.evaluation.training_free import kind_of_offsets
from snn.models.label_order import check_classes
from snn.models.tokenizer import check_tokenizer, load_tokenizer

#: Keys of ``quantization`` that a quantised checkpoint has decided; the others say how thresholds are set anew.
OF_THE_QUANTISERS = ("name", "levels", "granularity", "coverage", "rules", "threshold")


def load_parent(session: Session) -> nn.Module:
    """The float or quantised network of ``checkpoint``, with its data set and tokenizer.

    Raises:
        CheckpointError: Missing or damaged.
    """
    config = session.config
    assert config.checkpoint is not None
    folder = find_checkpoint(config.checkpoint)
    description = read_description(folder)
    _refuse_unsaid_data(session, description.get("about") or {})
    restore_data(session, folder)
    model = load_checkpoint(folder, session.device, spiking=False)
    _refuse_other_quantisers(session, model)
    classes = len(description.get("labels") or [])
    if classes and classes != session.data.num_classes:
        raise ConfigError(
            f"dataset={session.dataset.name} has {session.data.num_classes} classes, but the checkpoint has {classes}"
        )
    check_classes(description.get("labels") or [], session.data.label_names, str(folder))
    if session.tokenizer is not None:
        check_tokenizer(
            session.tokenizer, model, session.data.longest, pairs=len(session.dataset.text_fields) > 1
        )
    session.summary["model"] = description["model"]["name"]
    saved = description.get("neuron") or {}
    session.parent_neuron = saved
    session.parent_offsets = kind_of_offsets(model)
    return model


def load_finished(session: Session) -> nn.Module:
    """As :func:`load_parent`, but nothing will train the network, so that its read-out has to fit the data set.

    Raises:
        CheckpointError: Missing or damaged.
        ConfigError: Its read-out is for other labels.
    """
    model = load_parent(session)
    spec: Any = model.spec
    width = spec["args"]["num_classes"]
    check_outputs(session, width, f"checkpoint={session.config.checkpoint}: its read-out has width {width}")
    return model


def restore_data(session: Session, folder: Path) -> None:
    """Give the session the data set and tokenizer of a checkpoint, unless the config names a data set.

    Raises:
        CheckpointError: It does not say what they were.
    """
    config = session.config
    description = read_description(folder)
    about = description.get("about") or {}
    if config.dataset.name == "from_checkpoint" and "dataset" not in about:
        raise CheckpointError(f"checkpoint={folder} does not say what it was trained on: give dataset=")
    session.dataset = merge_dataset(about.get("dataset") or {}, config.dataset, said_about("dataset"))
    if (folder / "tokenizer_config.json").exists():
        name = description["model"]["name"]
        session.tokenizer = load_tokenizer(str(folder), config.paths.cache, model=name)
    elif session.dataset.kind == "text":
        raise CheckpointError(
            f"checkpoint={folder} holds no tokenizer, and dataset={session.dataset.name} is text"
        )


def _refuse_unsaid_data(session: Session, about: dict[str, Any]) -> None:
    """Refuse another data set than the checkpoint's where nobody asked for it: it is ``train.py``'s own default."""
    trained_on, name = (about.get("dataset") or {}).get("name"), session.dataset.name
    asked = "" in said_about("dataset") or said_about("experiment")
    if said_about("checkpoint") and not asked and name not in ("from_checkpoint", trained_on) and trained_on:
        raise ConfigError(
            f"checkpoint={session.config.checkpoint} was trained on {trained_on}, and no data set is given: "
            f"dataset=from_checkpoint goes on with that, dataset={name} would take another"
        )


def _refuse_other_quantisers(session: Session, model: nn.Module) -> None:
    """Refuse what a quantised checkpoint has decided: where its quantisers are, and of what kind."""
    kinds = {quantizer.name for quantizer in quantizers(model).values()}
    said = said_about("quantization")
    others = [said[key] for key in OF_THE_QUANTISERS if key in said]
    if "" in said and session.config.quantization.name not in kinds:
        others.append(said[""])
    if kinds and others:
        raise ConfigError(
            f"checkpoint={session.config.checkpoint} is quantised already ({', '.join(sorted(kinds))}); leave out "
            f"{', '.join(others)}, which would say nothing, or start from its float network"
        )


def check_outputs(session: Session, outputs: int, said: str) -> None:
    """Refuse a read-out that does not suit the data set's classes, metrics or measurements."""
    data = session.data
    if data.config.task == "regression" and outputs != 1:
        raise ConfigError(f"{said}, but dataset={data.config.name} has measurements, for which it is 1")
    if data.config.labelled and outputs < data.num_classes:
        raise ConfigError(f"{said}, but dataset={data.config.name} has {data.num_classes} classes")
    if data.config.labelled and outputs > data.num_classes == 2 and "f1" in data.config.metrics:
        raise ConfigError(
            f"{said}, but the F1 of dataset={data.config.name} is that of its second class, for which a read-out has "
            "two; set model.num_classes=2, or leave f1 out of dataset.metrics"
        )
