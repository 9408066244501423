"""The teacher's outputs for a data set, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from snn.errors import ConfigError
from snn.folders import replaced_folder, surviving
from snn.training.taps import Signals

log = logging.getLogger(__name__)

_INDEX = "rows.json"
Batch = Mapping[str, Tensor]


class TeacherStore:
    """Hands out what a teacher showed of texts, padding left out, as it was computed; asks it for other texts.

    Args:
        folder: Where it lies, once :meth:`fill` has written it.
        ask: What the teacher shows of a batch.
    """

    def __init__(self, folder: Path, ask: Callable[[Batch], Signals]):
        self.folder, self.ask = folder, ask
        #: Hash of a text → its file, and its row there.
        self.rows: dict[str, tuple[str, int]] = {}
        self._files: dict[str, Any] = {}
        if (surviving(folder) / _INDEX).exists():
            self.folder = surviving(folder)
            written = json.loads((self.folder / _INDEX).read_text("utf-8"))
            self.rows = {key: (file, row) for key, (file, row) in written.items()}

    @property
    def filled(self) -> bool:
        return bool(self.rows)

    def fill(self, batches: Iterable[Batch], lengths: Iterable[int], device: torch.device) -> None:
        """Compute and write the outputs for all batches, in full or not at all.

        Args:
            batches: Of texts.
            lengths: Tokens of each text, to say beforehand how much space it takes.
            device: Where the teacher is.

        Raises:
            ConfigError: The disk has too little space.
        """
        index: dict[str, tuple[str, int]] = {}
        with replaced_folder(self.folder) as fresh:
            for number, batch in enumerate(batches):
                batch = {name: value.to(device) for name, value in batch.items()}
                shown = self.ask(batch)
                if number == 0:
                    self._announce(size_of(shown, lengths), fresh)
                name = f"{number:06d}.safetensors"
                tensors: dict[str, Tensor] = {}
                for row, (key, real) in enumerate(keys(batch)):
                    index[key] = (name, row)
                    tensors |= {f"{row}/{k}": v.cpu() for k, v in _cut(shown, row, real).items()}
                save_file(tensors, fresh / name)
            (fresh / _INDEX).write_text(json.dumps(index), "utf-8")
        self.rows = index

    def __call__(self, batch: Batch) -> Signals:
        """What the teacher showed of a batch; what was padding is zero."""
        found = [(self.rows.get(key), real) for key, real in keys(batch)]
        if any(place is None for place, _ in found):
            return self.ask(batch)
        device, length = batch["input_ids"].device, batch["input_ids"].shape[1]
        rows = [
            {name: value.to(device) for name, value in self._read(place[0], place[1]).items()}
            for place, _ in found
            if place is not None
        ]

        def joined(name: str, spread: Callable[[Tensor, Tensor, int], Tensor]) -> tuple[Tensor, ...]:
            if name not in rows[0]:
                return ()
            return tuple(
                torch.stack([spread(row[name], real, length) for row, (_, real) in zip(rows, found)], 1)
            )

        logits = torch.stack([row["logits"] for row in rows], -2)
        return Signals(logits, joined("hidden", _spread), joined("scores", _spread_both))

    def _read(self, file: str, row: int) -> dict[str, Tensor]:
        if file not in self._files:
            self._files[file] = safe_open(self.folder / file, framework="pt")
        opened = self._files[file]
        names = [name for name in ("logits", "hidden", "scores") if f"{row}/{name}" in opened.keys()]  # noqa: SIM118
        return {name: opened.get_tensor(f"{row}/{name}") for name in names}

    def _announce(self, size: int, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        log.info(
            "the teacher's outputs take %.1f GB in %s (%.1f GB are free)", size / 1e9, self.folder, free / 1e9
        )
        if size > free:
            raise ConfigError(
                f"distillation.cache: the teacher's outputs take {size / 1e9:.1f} GB, but {self.folder} has "
                f"{free / 1e9:.1f} GB left; use distillation.cache=false, another paths.cache, or fewer texts"
            )


def keys(batch: Batch) -> list[tuple[str, Tensor]]:
    """For each text a hash of its tokens, and where in the row they are."""
    mask = batch.get("attention_mask")
    ids = batch["input_ids"]
    mask = torch.ones_like(ids).bool() if mask is None else mask.bool()
    types = batch.get("token_type_ids")
    found = []
    for row in range(len(ids)):
        real = mask[row].nonzero()[:, 0]
        parts = [x[row, real].cpu().numpy().tobytes() for x in (ids, types) if x is not None]
        found.append((hashlib.sha256(b"|".join(parts)).hexdigest()[:32], real))
    return found


def size_of(shown: Signals, lengths: Iterable[int]) -> int:
    """Bytes that outputs for texts of these lengths take, from an example of them."""
    lengths = [int(length) for length in lengths]
    token = sum(h.shape[-1] * h.element_size() for h in shown.hidden)
    pair = sum(s.shape[1] * s.element_size() for s in shown.scores)
    head = shown.logits.shape[-1] * shown.logits.element_size()
    return sum(length * token + length**2 * pair + head for length in lengths)


def fingerprint(network: nn.Module) -> str:
    """16 hex digits over all weights but those of a random head, which nobody learns from."""
    digest, untrained = hashlib.sha256(), getattr(network, "untrained", ())
    for name, tensor in sorted(network.state_dict().items()):
        if name in untrained:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _cut(shown: Signals, row: int, real: Tensor) -> dict[str, Tensor]:
    cut = {"logits": shown.logits[..., row, :].contiguous()}
    if shown.hidden:
        cut["hidden"] = torch.stack([h[row, real] for h in shown.hidden])
    if shown.scores:
        cut["scores"] = torch.stack([s[row][:, real][:, :, real] for s in shown.scores])
    return cut


def _spread(values: Tensor, real: Tensor, length: int) -> Tensor:
    """``[layers, tokens, width]`` to ``[layers, length, width]``."""
    out = values.new_zeros(values.shape[0], length, values.shape[2])
    out[:, real] = values
    return out


def _spread_both(values: Tensor, real: Tensor, length: int) -> Tensor:
    """``[layers, heads, tokens, tokens]`` to ``[layers, heads, length, length]``."""
    out = values.new_zeros(*values.shape[:2], length, length)
    out[:, :, real[:, None], real] = values
    return out
