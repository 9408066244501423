"""A split of recordings of an event camera, as frames."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn.data.events_augment import EventAugmentation
from snn.data.events_frames import to_frames
from snn.data.events_schema import EventsConfig
from snn.data.events_sources import Recording
from snn.data.schema import DatasetConfig
from snn.data.split import Split
from snn.errors import DataError
from snn.progress import progress

log = logging.getLogger(__name__)

#: Settings that frames depend on.
_OF_FRAMES = ("frames", "by", "sensor", "resize", "sort", "layout")


class EventSplit(Split):
    """Frames ``[N, T, 2, H, W]`` of counts, with class numbers.

    Args:
        frames: In memory, or a file that is mapped.
        labels: Class numbers, int64, ``[N]``.
        checksums: Of the frames of each recording.
        names: Of the recordings.
    """

    def __init__(self, frames: np.ndarray, labels: np.ndarray, checksums: np.ndarray, names: Sequence[str]):
        self.frames, self.labels, self.checksums, self.names = frames, labels, checksums, list(names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a frame."""
        _, _, channels, height, width = self.frames.shape
        return channels, height, width

    def batch(self, rows: np.ndarray, augmentation: EventAugmentation | None = None) -> dict[str, Tensor]:
        """Return some rows.

        Shape:
            ``pixel_values``: float32 ``[B, T, 2, H, W]``; ``labels``: ``[B]``.
        """
        frames = torch.from_numpy(np.stack([self.frames[row] for row in rows]).astype(np.float32))
        if augmentation is not None:
            frames = augmentation(frames, rows)
        return {"pixel_values": frames, "labels": torch.from_numpy(np.asarray(self.labels[rows]))}

    def contents(self) -> Iterator[np.ndarray]:
        """Everything that a fingerprint covers."""
        yield from (self.checksums, self.labels)


def prepare_events(
    recordings: Sequence[Recording],
    rows: np.ndarray,
    labels: np.ndarray,
    config: DatasetConfig,
    cache: Path,
    where: str,
) -> EventSplit:
    """Cut recordings into frames, or find the frames of an earlier run.

    Args:
        recordings: All of a source.
        rows: Numbers of those to use.
        labels: Their class numbers.
        config: With ``events``, whose number of frames is known.
        cache: Folder of all downloads.
        where: The source, for error messages.

    Raises:
        DataError: A recording that cannot be read, or frames whose number nobody has said.
    """
    asked = config.events
    assert asked is not None
    if asked.frames is None:
        raise DataError("dataset.events.frames: give the number of frames of a recording, or T")
    chosen = [recordings[row] for row in rows]
    settings = {key: asdict(asked)[key] for key in _OF_FRAMES} | {"size": config.image_size}
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for recording in chosen:
        digest.update(f"{recording.key}\n".encode())
    path = cache / "events" / f"{digest.hexdigest()[:24]}.npy"
    if not path.exists() or not path.with_suffix(".crc").exists():
        _write(chosen, asked, config.image_size, path, where)
    frames = np.load(path, mmap_mode="r")
    checksums = np.fromfile(path.with_suffix(".crc"), np.uint32)
    return EventSplit(frames, labels, checksums, [recording.name for recording in chosen])


def _write(
    recordings: Sequence[Recording], asked: EventsConfig, size: int | None, path: Path, where: str
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    checksums = np.empty(len(recordings), np.uint32)
    height, width = asked.sensor
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        out: Any = None
        for index, recording in enumerate(progress(recordings, f"frames of {where}", len(recordings))):
            events = recording.read(asked)
            try:
                frames = to_frames(events, asked.frames or 1, asked.by, (height, width), size, asked.resize)
            except DataError as error:
                raise DataError(f"{recording.name}: {error}") from error
            if out is None:
                shape = len(recordings), *frames.shape
                out = np.lib.format.open_memmap(made, mode="w+", dtype=frames.dtype, shape=shape)
            out[index] = frames
            checksums[index] = zlib.crc32(frames.tobytes())
        out.flush()
        checksums.tofile(made.with_suffix(".crc"))
        # The frames last: whoever sees them finds the rest.
        os.replace(made.with_suffix(".crc"), path.with_suffix(".crc"))
        os.replace(made, path)
