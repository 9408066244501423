"""Checkpoints: ``model.safetensors`` for the numbers, ``model.yaml`` for names and arguments. Nothing
pickled, no code.

What is stored is the float, quantised or spiking network in the same way: architecture by registry name, the
quantisers that were inserted, and the neuron if there is one. Loading looks the names up and refuses
everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from snn.conversion.convert import convert
from snn.conversion.network import SpikingNetwork
from snn.conversion.plan import Plan, Step
from snn.conversion.surgery import insert
from snn.errors import CheckpointError, SNNError
from snn.folders import replaced_folder, surviving
from snn.models.registry import create_model
from snn.neurons.base import Neuron

FORMAT = "snn-checkpoint-1"
WEIGHTS, DESCRIPTION = "model.safetensors", "model.yaml"
_KEYS = {"format", "stage", "model", "quantizers", "neuron", "labels", "about"}


def save_checkpoint(
    model: nn.Module,
    folder: str | Path,
    *,
    tokenizer: Any = None,
    labels: list[str] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint, in full or not at all: a failure leaves the one that was there before.

    Args:
        model: A float, quantised or spiking network made by :func:`snn.create_model`.
        folder: Where; replaced as a whole.
        tokenizer: Saved beside the model, if there is one.
        labels: Names of the classes.
        about: Lineage and the like: plain types.

    Raises:
        CheckpointError: The model has no ``spec``, or the disk refused.
    """
    folder = Path(folder)
    description, inner = describe(model)
    description |= {"labels": list(labels or []), "about": dict(about or {})}
    # A neuron's bounds follow from its quantiser's arguments, which the description holds.
    derived = {f"{n}.bounds" for n, m in inner.named_modules(remove_duplicate=False) if isinstance(m, Neuron)}
    state = {k: v for k, v in inner.state_dict().items() if k not in derived}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    try:
        with replaced_folder(folder) as fresh:
            save_file(tensors, fresh / WEIGHTS)
            (fresh / DESCRIPTION).write_text(text, "utf-8")
            if tokenizer is not None:
                tokenizer.save_pretrained(fresh)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        kept = "the previous checkpoint is unharmed" if folder.exists() else "nothing was written"
        raise CheckpointError(f"cannot save a checkpoint to {folder}: {reason}; {kept}") from error
    return folder


def load_checkpoint(
    folder: str | Path, device: str | torch.device = "cpu", spiking: bool = True
) -> nn.Module:
    """The network as it was saved, in evaluation mode.

    Args:
        folder: A checkpoint folder, or a run's folder that holds ``checkpoint/``.
        device: Where to put it.
        spiking: Whether a spiking network is wanted as such; otherwise the quantised one behind it.

    Raises:
        CheckpointError: Missing, truncated, of another format, or naming something unknown.
    """
    folder = find_checkpoint(folder)
    description = read_description(folder)
    try:
        model = create_model(description["model"]["name"], weights=None, **description["model"]["args"])
        if description.get("quantizers"):
            insert(model, Plan(tuple(Step(**step) for step in description["quantizers"]), ()))
    except (SNNError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{folder / DESCRIPTION}: {error}") from error
    try:
        tensors = load_file(folder / WEIGHTS)
    except Exception as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    model = model.to(next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit {DESCRIPTION}: {_short(error)}") from error
    model.eval().to(device)
    neuron = description.get("neuron")
    if neuron and spiking:
        try:
            return convert(model, **neuron)
        except (SNNError, TypeError) as error:
            raise CheckpointError(f"{folder / DESCRIPTION}: {error}") from error
    return model


def describe(model: nn.Module) -> tuple[dict[str, Any], nn.Module]:
    """The description of a network, and the module whose numbers belong to it."""
    neuron = None
    inner = model
    if isinstance(model, SpikingNetwork):
        inner = model.model
        first = next(iter(model.neurons.values()))
        neuron = {"neuron": first.name, "T": model.T, "coding": model.coding, "execution": model.execution}
        if model.chunk:
            neuron["chunk"] = model.chunk
        if model.spread > 1:
            neuron["spread"] = model.spread
        neuron |= first.options()
    spec = getattr(inner, "spec", None)
    if spec is None:
        raise CheckpointError(
            "only a model made by snn.create_model (or by its config) can be saved: it has no .spec"
        )
    made = getattr(inner, "plan", None)
    steps = []
    for step in made.surgery if made else []:
        entry = {"name": step.name, "kind": step.kind, "rule": step.rule, "do": step.do}
        entry |= {"call": step.call} if step.call else {}
        steps.append({**entry, "options": _present_options(inner, step)})
    stage = "spiking" if neuron else "quantized" if steps else "float"
    model_entry = {"name": spec["name"], "args": dict(spec["args"])}
    return {
        "format": FORMAT,
        "stage": stage,
        "model": model_entry,
        "quantizers": steps,
        "neuron": neuron,
    }, inner


def _present_options(model: nn.Module, step: Step) -> dict[str, Any]:
    """The quantiser's arguments as they are now: levels may have changed since it was inserted."""
    from snn.quantizers.base import Quantizer

    if not step.acts:
        return {}
    present = model.get_submodule(step.address)
    options = dict(step.options or {})
    options.pop("threshold", None)
    return {**options, **(present.arguments() if isinstance(present, Quantizer) else {})}


def find_checkpoint(folder: str | Path) -> Path:
    """The checkpoint in ``folder``: itself, or ``checkpoint/`` inside it.

    Raises:
        CheckpointError: There is none; the message says what is there.
    """
    folder = Path(folder)
    for candidate in (folder, folder / "checkpoint"):
        candidate = surviving(candidate)
        if (candidate / DESCRIPTION).exists():
            return candidate
    if not folder.exists():
        raise CheckpointError(f"checkpoint={folder}: no such folder")
    inside = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
    raise CheckpointError(
        f"checkpoint={folder}: no {DESCRIPTION} here or in checkpoint/; the folder holds: {inside}"
    )


def read_description(folder: str | Path) -> dict[str, Any]:
    """``model.yaml``, checked: names and arguments of the network, ``labels``, and what is known ``about`` it.

    Args:
        folder: A checkpoint folder, or a run's folder that holds ``checkpoint/``.

    Raises:
        CheckpointError: None there, not of our format, or with anything that is not a name or an argument.
    """
    path = find_checkpoint(folder) / DESCRIPTION
    try:
        description = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {_short(error)}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        found = description.get("format") if isinstance(description, dict) else type(description).__name__
        raise CheckpointError(f"{path}: expected format {FORMAT}; got {found!r}")
    _refuse_targets(description, str(path))
    unknown = set(description) - _KEYS
    if unknown:
        raise CheckpointError(f"{path}: unknown key {sorted(unknown)[0]!r}")
    entry = description.get("model")
    if not isinstance(entry, dict) or not isinstance(entry.get("args"), dict) or "name" not in entry:
        raise CheckpointError(f"{path}: model must hold a name and args")
    _check_parts(description, str(path))
    return description


def _check_parts(description: dict[str, Any], where: str) -> None:
    neuron, steps = description.get("neuron") or {}, description.get("quantizers") or []
    if not isinstance(neuron, dict):
        raise CheckpointError(f"{where}: neuron must be a name with arguments; got {neuron!r}")
    if not isinstance(steps, list):
        raise CheckpointError(f"{where}: quantizers must be a list; got {steps!r}")
    numbers = {"neuron.T": neuron.get("T", 1)}
    for index, step in enumerate(steps):
        if not isinstance(step, dict) or not isinstance(step.get("options"), dict):
            raise CheckpointError(f"{where}: quantizers[{index}] must say a place and options; got {step!r}")
        numbers[f"quantizers[{index}].options.levels"] = step["options"].get("levels", 1)
    for key, value in numbers.items():
        if not isinstance(value, int):
            raise CheckpointError(f"{where}: {key} must be a whole number; got {value!r}")


def _refuse_targets(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if str(key).startswith("_") and str(key).endswith("_"):
                raise CheckpointError(
                    f"{where}: {key!r} is not allowed; checkpoints name registered things only"
                )
            _refuse_targets(inner, where)
    elif isinstance(value, list):
        for inner in value:
            _refuse_targets(inner, where)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
