"""Where the recordings of an event camera lie, and which class each of them is."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from snn.data.events_files import READERS, Events, checked, read_events
from snn.data.events_schema import EventsConfig
from snn.data.schema import DatasetConfig, split_names
from snn.data.table import Source, Table
from snn.errors import DataError

#: Names of the column that holds recordings.
COLUMN = "events"
GESTURES = [
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise",
    "left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures",
]  # fmt: skip
#: Channels of one half of the cochlea, and the sides of the frame that they are laid out in.
SHD_CHANNELS, SHD_SIDE = 350, 16
_Labelled = tuple[list["Recording"], list[str]]


class Recording(Protocol):
    """One recording, or a part of one."""

    @property
    def key(self) -> str:
        """What tells it from others, its length and age included."""

    @property
    def name(self) -> str:
        """What people call it."""

    def read(self, config: EventsConfig) -> Events:
        """Its events in the order of time."""


@dataclass(frozen=True)
class Clip:
    """A file, or the part of one between two times.

    Args:
        path: The file.
        name: Relative to the folder of the data set.
        span: First time and the one behind the last, in microseconds; None: all.
    """

    path: Path
    name: str
    span: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        about = self.path.stat()
        return f"{self.name} {self.span} {about.st_size} {about.st_mtime_ns}"

    def read(self, config: EventsConfig) -> Events:
        height, width = config.sensor
        events = _whole(self.path, (height, width), config.sort)
        if self.span is None:
            return events
        part = events.taken((events.t >= self.span[0]) & (events.t < self.span[1]))
        if not len(part):
            raise DataError(f"{self.path} has no events from {self.span[0]} to {self.span[1]} µs")
        return part


@lru_cache(maxsize=1)  # many parts of one recording are asked for in a row
def _whole(path: Path, sensor: tuple[int, int], sort: bool) -> Events:
    return read_events(path, sensor, sort)


@dataclass(frozen=True)
class SpokenDigit:
    """One row of a file of the Spiking Heidelberg Digits.

    The 700 channels are two halves of 350, which stand for the two polarities; each half fills a square frame row by
    row.
    """

    path: Path
    row: int

    @property
    def name(self) -> str:
        return f"{self.path.name}[{self.row}]"

    @property
    def key(self) -> str:
        about = self.path.stat()
        return f"{self.name} {about.st_size} {about.st_mtime_ns}"

    def read(self, config: EventsConfig) -> Events:
        file = _opened(self.path)
        seconds, units = file["spikes/times"][self.row], file["spikes/units"][self.row].astype(int)
        place = units % SHD_CHANNELS * SHD_SIDE**2 // SHD_CHANNELS
        t = (seconds.astype(float) * 1e6).round().astype(int)
        events = Events(t, place % SHD_SIDE, place // SHD_SIDE, units // SHD_CHANNELS)
        return checked(events, f"{self.path}, row {self.row + 1}", (SHD_SIDE, SHD_SIDE), config.sort)


def load_recordings(config: DatasetConfig) -> Source:
    """Find what is in ``dataset.data_dir``; nothing is read yet but tables of labels.

    Raises:
        DataError: Nothing there, or not laid out as ``dataset.events.layout`` says.
    """
    root = Path(str(config.data_dir)).expanduser()
    if not root.is_dir():
        raise DataError(
            f"dataset.data_dir: {root} is no folder; recordings of dataset={config.name} are expected in it"
        )
    assert config.events is not None
    find = _LAYOUTS[config.events.layout]
    tables = {}
    for split, stem in split_names(config).items():
        if stem is not None:
            recordings, labels = find(root, stem)
            if not recordings:
                raise DataError(f"dataset.splits.{split}={stem}: no recordings in {root / stem}")
            tables[split] = Table({COLUMN: recordings, config.label_field: labels}, str(root / stem))
    names = GESTURES if config.events.layout == "gesture" else []
    if config.events.layout == "folders":
        names = sorted({label for table in tables.values() for label in table.columns[config.label_field]})
    return Source(tables, f"{root} ({', '.join(tables)})", names)


def _folders(root: Path, stem: str) -> _Labelled:
    """A class is the folder that a file lies in."""
    files = sorted(path for path in (root / stem).rglob("*") if path.suffix in READERS)
    clips: list[Recording] = [Clip(path, str(path.relative_to(root))) for path in files]
    return clips, [path.parent.name for path in files]


def _gestures(root: Path, stem: str) -> _Labelled:
    """Recordings of many gestures, cut by their tables; or parts that have been cut already, named by class."""
    trials = root / f"{stem}.txt"
    if not trials.exists():
        files = sorted((root / stem).rglob("*.npy"), key=lambda path: (str(path.parent), int(path.stem)))
        if not files:
            raise DataError(
                f"{root} holds neither {trials.name} nor a folder {stem} with .npy files of single gestures"
            )
        parts: list[Recording] = [Clip(path, str(path.relative_to(root))) for path in files]
        return parts, [GESTURES[int(path.stem)] for path in files]
    found = list(_trials(root, trials))
    return [clip for clip, _ in found], [label for _, label in found]


def _trials(root: Path, trials: Path) -> Iterator[tuple[Recording, str]]:
    for line in trials.read_text("utf-8").split():
        path = root / line
        table = path.with_name(f"{path.stem}_labels.csv")
        for file in (path, table):
            if not file.exists():
                raise DataError(f"{trials.name} names {line}, but {file} does not exist")
        with table.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                try:
                    number, *span = (int(row[key]) for key in ("class", "startTime_usec", "endTime_usec"))
                    label = GESTURES[number - 1]
                except (KeyError, ValueError, TypeError, IndexError) as error:
                    raise DataError(
                        f"{table}: {row} is no class from 1 to {len(GESTURES)} with two times"
                    ) from error
                yield Clip(path, line, (span[0], span[1])), label


def _spoken_digits(root: Path, stem: str) -> _Labelled:
    path = root / f"{stem}.h5"
    if not path.exists():
        raise DataError(f"dataset.splits: no file {path}")
    file = _opened(path)
    keys = [key.decode() if isinstance(key, bytes) else str(key) for key in file["extra/keys"][:]]
    labels = file["labels"][:].astype(int).tolist()
    digits: list[Recording] = [SpokenDigit(path, row) for row in range(len(labels))]
    return digits, [keys[label] for label in labels]


@lru_cache(maxsize=2)
def _opened(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise DataError("dataset.events.layout=shd reads HDF5: pip install 'snn[events]'") from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


_LAYOUTS: dict[str, Callable[[Path, str], _Labelled]] = {
    "folders": _folders,
    "gesture": _gestures,
    "shd": _spoken_digits,
}
