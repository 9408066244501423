"""Files of event cameras: AEDAT 2.0 and 3.1, the 40-bit format of N-MNIST and N-Caltech101, NPZ and NPY arrays.

Every reader gives the events in image coordinates, origin at the top left, and refuses what is cut short or cannot be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snn.errors import DataError


@dataclass(frozen=True)
class Events:
    """Events of one recording, one value each.

    Args:
        t: Time stamps, in microseconds, int64.
        x: Column.
        y: Row.
        p: Polarity: 1: brighter, 0: darker.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    def __len__(self) -> int:
        return len(self.t)

    def taken(self, which: np.ndarray | slice) -> Events:
        """Some of them."""
        return Events(self.t[which], self.x[which], self.y[which], self.p[which])


def read_events(path: Path, sensor: tuple[int, int], sort: bool = False) -> Events:
    """Read a recording by its ending.

    Args:
        path: The file.
        sensor: Height and width, in pixels.
        sort: Order events by time where they are not.

    Raises:
        DataError: It is cut short, has no event, time stamps out of order or a place outside of the sensor.
    """
    reader = READERS.get(path.suffix)
    if reader is None:
        raise DataError(f"{path}: unknown kind of recording; readable: {', '.join(READERS)}")
    try:
        events = reader(path)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    return checked(events, str(path), sensor, sort)


def checked(events: Events, where: str, sensor: tuple[int, int], sort: bool = False) -> Events:
    """The events, if they can be; see :func:`read_events`."""
    if not len(events):
        raise DataError(f"{where} has no events")
    back = np.flatnonzero(np.diff(events.t) < 0)
    if len(back) and sort:
        events = events.taken(np.argsort(events.t, kind="stable"))
    elif len(back):
        first = int(back[0])
        raise DataError(
            f"{where}: time stamps are out of order: {events.t[first + 1]} µs after {events.t[first]} µs (event "
            f"{first + 2}); dataset.events.sort=true sorts them"
        )
    height, width = sensor
    for name, values, size in (("column", events.x, width), ("row", events.y, height)):
        if int(values.min()) < 0 or int(values.max()) >= size:
            wrong = int(values.max() if values.max() >= size else values.min())
            raise DataError(
                f"{where}: an event in {name} {wrong}, outside of dataset.events.sensor={list(sensor)} (height, width)"
            )
    if int(events.p.min()) < 0 or int(events.p.max()) > 1:
        raise DataError(
            f"{where}: polarities run from {events.p.min()} to {events.p.max()}, expected 0 and 1"
        )
    return events


def read_aedat(path: Path) -> Events:
    """AEDAT 2.0 or 3.1, as the header says.

    2.0 holds the addresses of a DVS128: its columns count from the right and its rows from below.
    """
    raw = path.read_bytes()
    version, start = _aedat_header(raw, path)
    return _aedat2(raw[start:], path) if version.startswith("2") else _aedat3(raw[start:], path)


def _aedat_header(raw: bytes, path: Path) -> tuple[str, int]:
    """Version, and where the events begin."""
    version, start = "", 0
    while raw[start : start + 1] == b"#":
        end = raw.find(b"\n", start)
        if end < 0:
            raise DataError(f"{path} is cut short within its header")
        line = raw[start:end].strip()
        start = end + 1
        if line.startswith(b"#!AER-DAT"):
            version = line.removeprefix(b"#!AER-DAT").decode("ascii", "replace")
        if line == b"#!END-HEADER":
            break
    if not version.startswith(("2.", "3.")):
        raise DataError(f"{path}: AEDAT version {version or 'that it does not say'}; readable: 2.0 and 3.1")
    return version, start


def _aedat2(raw: bytes, path: Path) -> Events:
    if len(raw) % 8:
        raise DataError(f"{path} is cut short: {len(raw)} bytes of events are no multiple of 8")
    address, t = np.frombuffer(raw, dtype=">u4").reshape(-1, 2).astype(np.int64).T
    return Events(t, 127 - (address >> 1 & 0x7F), 127 - (address >> 8 & 0x7F), 1 - (address & 1))


#: Header of a packet: kind, source, size of an event, place of its time stamp, overflow, capacity, number, valid.
_PACKET = np.dtype("<i2,<i2,<i4,<i4,<i4,<i4,<i4,<i4")
_POLARITY = 1


def _aedat3(raw: bytes, path: Path) -> Events:
    words, stamps, at = [], [], 0
    while at < len(raw):
        if at + _PACKET.itemsize > len(raw):
            raise DataError(f"{path} is cut short within the header of a packet")
        kind, _, size, _, overflow, capacity, number, _ = np.frombuffer(raw, _PACKET, 1, at)[0].tolist()
        at += _PACKET.itemsize
        if size < 0 or not 0 <= number <= capacity or at + size * capacity > len(raw):
            raise DataError(
                f"{path} is cut short: a packet of {capacity} events of {size} bytes is not there as a whole"
            )
        if kind == _POLARITY:
            packet = np.frombuffer(raw, "<u4", 2 * number, at).reshape(-1, 2).astype(np.int64)
            words.append(packet[:, 0])
            stamps.append(packet[:, 1] + (overflow << 31))
        at += size * capacity
    word = np.concatenate(words) if words else np.empty(0, np.int64)
    t = np.concatenate(stamps) if stamps else np.empty(0, np.int64)
    events = Events(t, word >> 17 & 0x7FFF, word >> 2 & 0x7FFF, word >> 1 & 1)
    return events.taken((word & 1).astype(bool))  # the others have been taken back


#: Rows that no sensor has: such an entry lengthens the time.
_OVERFLOW, _LONGER = 240, 2**13


def read_bin(path: Path) -> Events:
    """Five bytes an event: column, row, one bit of polarity and 23 bits of time."""
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    if len(raw) % 5:
        raise DataError(f"{path} is cut short: {len(raw)} bytes are no multiple of 5")
    x, y, *rest = raw.reshape(-1, 5).astype(np.int64).T
    t = (rest[0] & 0x7F) << 16 | rest[1] << 8 | rest[2]
    longer = y == _OVERFLOW
    t = t + _LONGER * np.cumsum(longer)
    return Events(t, x, y, rest[0] >> 7).taken(~longer)


def read_npz(path: Path) -> Events:
    """Arrays ``t``, ``x``, ``y`` and ``p``, of one length."""
    with np.load(path, allow_pickle=False) as arrays:
        missing = [name for name in "txyp" if name not in arrays.files]
        if missing:
            held = ", ".join(arrays.files) or "none"
            raise DataError(f"{path}: no array {', '.join(missing)}; it holds {held}")
        columns = [arrays[name] for name in "txyp"]
    lengths = {column.shape for column in columns}
    if len(lengths) > 1 or any(column.ndim != 1 for column in columns):
        raise DataError(f"{path}: t, x, y and p must be of one length, got {', '.join(map(str, lengths))}")
    return Events(*(column.astype(np.int64) for column in columns))


def read_npy(path: Path) -> Events:
    """One array ``[N, 4]`` of column, row, polarity and time in milliseconds."""
    array = np.load(path, allow_pickle=False)
    if array.ndim != 2 or array.shape[1] != 4:
        raise DataError(
            f"{path}: expected an array [N, 4] of column, row, polarity, milliseconds; got {list(array.shape)}"
        )
    x, y, p, milliseconds = array.T
    t = np.round(milliseconds.astype(np.float64) * 1000).astype(np.int64)
    return Events(t, *(column.astype(np.int64) for column in (x, y, p)))


#: By the ending of a file.
READERS: dict[str, Callable[[Path], Events]] = {
    ".aedat": read_aedat,
    ".bin": read_bin,
    ".npz": read_npz,
    ".npy": read_npy,
}
