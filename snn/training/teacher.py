"""A network to learn from: found, loaded, compared with the student's tokenizer and classes, and never changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import labels_removed
from snn.conversion.checkpoint import DESCRIPTION, load_checkpoint, read_description
from snn.errors import ConfigError
from snn.evaluation.session import Session
from snn.folders import surviving
from snn.models import families
from snn.models.registry import architecture_of, create_model
from snn.models.text import TextFamily
from snn.models.tokenizer import check_tokenizer, load_tokenizer
from snn.models.weights import find_weights, locate
from snn.training.taps import Signals, Taps

log = logging.getLogger(__name__)

KEY = "distillation.teacher"


class Teacher:
    """A network in evaluation mode, run without a graph.

    It is no module, so that it is neither trained nor saved with its student.

    Args:
        network: Made by :func:`snn.create_model`, on the device that it is to run on.
        classes: The number that each of the student's classes has here; None: the same.
    """

    def __init__(self, network: nn.Module, classes: Sequence[int] | None = None):
        self.network = network.eval()
        self.classes = None if classes is None else list(classes)
        spec: Any = getattr(network, "spec", None)
        self.token_types = spec is None or architecture_of(spec["name"]).token_types

    def look(self, hidden: bool, scores: bool) -> Taps:
        """What to look at, for :meth:`show`.

        Raises:
            ConfigError: The network has no layers to look at.
        """
        return Taps(self.network, hidden, scores)

    @torch.no_grad()
    def show(self, taps: Taps, batch: Mapping[str, Tensor]) -> Signals:
        """What the network makes of a batch."""
        inputs = labels_removed(batch)
        if not self.token_types:
            inputs.pop("token_type_ids", None)
        found = taps(inputs)
        if self.classes is None:
            return found
        return Signals(found.logits[..., self.classes], found.hidden, found.scores)


def load_teacher(source: str, session: Session, logits: bool) -> Teacher:
    """The teacher that the config names.

    Args:
        source: A run's folder (its float network, or else its result), a checkpoint's, a folder or Hub name of
            transformers, or ``minilm``.
        session: With data and tokenizer of the student.
        logits: Whether its predictions are learnt, for which it has to have a head for the same classes.

    Raises:
        ConfigError: There is no such teacher, or it does not fit the student.
        CheckpointError: It is damaged.
    """
    folder, family = find_teacher(source, session)
    if family is None:
        teacher = _from_checkpoint(folder, session, logits)
    else:
        teacher = _from_weights(source, family, session, logits)
    if session.tokenizer is not None:
        check_tokenizer(session.tokenizer, teacher.network, session.data.longest)
        if (
            len(session.dataset.text_fields) > 1
            and teacher.token_types
            and not _makes_types(session.tokenizer)
        ):
            raise ConfigError(
                f"{KEY}={source} tells the two texts of a pair apart by token types, which model="
                f"{session.config.model.name} does not take; choose a teacher of the student's family"
            )
    log.info("teacher: %s", folder if family is None else source)
    return teacher


def find_teacher(source: str, session: Session) -> tuple[Path, TextFamily | None]:
    """Where a teacher lies, and which family of transformers it is of; None: it is a checkpoint of ours.

    Raises:
        ConfigError: There is no such teacher.
    """
    folder = teacher_folder(source)
    if folder is not None:
        return folder, None
    if session.tokenizer is None:
        raise ConfigError(f"{KEY}: no run or checkpoint in {source!r}; a teacher for pictures is one of them")
    folder = locate(source, session.config.paths.cache, "text", key=KEY)
    return folder, _family(folder, source)


def teacher_folder(source: str) -> Path | None:
    """The checkpoint behind a teacher's name, if it is one of ours: of a run the float network, or else its result."""
    run = Path(source).expanduser()
    for candidate in (run, run / "stages" / "float", run / "checkpoint"):
        if (surviving(candidate) / DESCRIPTION).exists():
            return surviving(candidate)
    return None


def _from_checkpoint(folder: Path, session: Session, logits: bool) -> Teacher:
    description = read_description(folder)
    network = load_checkpoint(folder, session.device, spiking=False)
    if session.tokenizer is not None:
        if not (folder / "tokenizer_config.json").exists():
            raise ConfigError(
                f"{KEY}={folder}: a network for pictures; dataset={session.dataset.name} is text"
            )
        name = description["model"]["name"]
        _compare(load_tokenizer(str(folder), session.config.paths.cache, model=name), session, str(folder))
    order = _class_order(list(description.get("labels") or []), session) if logits else None
    return Teacher(network, order)


def _from_weights(source: str, family: TextFamily, session: Session, logits: bool) -> Teacher:
    cache = session.config.paths.cache
    _compare(load_tokenizer(source, cache, model=family.name), session, source)
    classes = session.task_data.num_classes
    if logits and not _has_head(source, family, classes, cache):
        raise ConfigError(
            f"{KEY}={source} has no head for the {classes} classes of dataset={session.task.name}: its predictions "
            "would be random; fine-tune it first (python train.py training.stages=[float]) and name that run"
        )
    network = create_model(
        family.name,
        weights=source,
        num_classes=classes,
        labels=session.task_data.label_names if logits else (),
        cache_dir=cache,
    )
    return Teacher(network.to(session.device))


def _family(folder: Path, source: str) -> TextFamily:
    """Which registered family of text models a folder of weights belongs to."""
    known = {f.model_type: f for f in vars(families).values() if isinstance(f, TextFamily)}
    path = folder / "config.json"
    try:
        kind = json.loads(path.read_text("utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{KEY}={source}: neither a run, nor a checkpoint, nor a folder with transformers' config.json"
        ) from None
    if kind not in known:
        raise ConfigError(
            f"{KEY}={source}: a model of type {kind!r}; teachers are {', '.join(sorted(known))}"
        )
    return known[kind]


def _has_head(source: str, family: TextFamily, classes: int, cache: str | None) -> bool:
    from safetensors import safe_open

    weights = find_weights(source, cache, "text")
    assert weights is not None
    for file in weights.files:
        with safe_open(file, framework="pt") as tensors:
            name = f"{family.output}.weight"
            if name in tensors.keys():  # noqa: SIM118 - no mapping
                return tensors.get_slice(name).get_shape()[0] == classes
    return False


def _class_order(theirs: list[str], session: Session) -> list[int] | None:
    """Where each of the student's classes is among the teacher's outputs."""
    ours = session.task_data.label_names
    if theirs == ours or not theirs:
        return None
    if sorted(theirs) != sorted(ours):
        raise ConfigError(
            f"{KEY}: it predicts {', '.join(theirs)}, but dataset={session.task.name} has the classes "
            f"{', '.join(ours) or 'of a measurement'}"
        )
    return [theirs.index(name) for name in ours]


def _compare(theirs: Any, session: Session, source: str) -> None:
    """Refuse a teacher that reads other tokens than the student."""
    ours = session.tokenizer
    if spelling(ours) != spelling(theirs):
        raise ConfigError(
            f"{KEY}={source}: its tokenizer ({len(theirs)} tokens) is not the student's ({len(ours)} tokens), so that "
            f"they would see different texts; use model.tokenizer={source}, or another teacher"
        )


def spelling(tokenizer: Any) -> tuple[Any, ...]:
    """All that decides which tokens a text becomes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = json.loads(backend.to_str()) if backend is not None else {}
    parts = ("normalizer", "pre_tokenizer", "post_processor")
    return (tokenizer.get_vocab(), *(json.dumps(state.get(part), sort_keys=True) for part in parts))


def _makes_types(tokenizer: Any) -> bool:
    return "token_type_ids" in tokenizer.model_input_names
