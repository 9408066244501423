"""Files that survive what happens to a run: atomic writes, and a log of metrics that is never half a file."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from snn.errors import SNNError

# JSON has no such numbers; these spellings are read back by float(), by JavaScript's Number() and by W&B.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class RunFileError(SNNError, OSError):
    """A file of a run that cannot be written or read: a full disk, a missing folder, no permission."""


def write_text(path: str | Path, text: str) -> Path:
    """Write a file so that a reader sees all of the old content or all of the new, whatever happens.

    Args:
        path: The file; its folder is made if it is missing.
        text: All of the new content.

    Returns:
        The path.

    Raises:
        RunFileError: The file cannot be written; an earlier version of it is untouched.
    """
    return write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a binary file as :func:`write_text` does."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, because a rename is atomic within one file system only.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        kept = "; the earlier file is kept" if path.is_file() else ""
        raise RunFileError(f"cannot write {path}: {error.strerror or error}{kept}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return path


def write_json(path: str | Path, value: Any) -> Path:
    """Write JSON that every reader accepts, atomically.

    Numbers that are not finite become the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which
    :func:`read_json` turns back.

    Args:
        path: The file.
        value: Nested dicts and lists of plain values; paths, enums and arrays are written as text, names and
            lists.

    Raises:
        RunFileError: The file cannot be written; an earlier version of it is untouched.
        TypeError: A value has no JSON form.
    """
    return write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read what :func:`write_json` wrote.

    Raises:
        RunFileError: The file is missing or is not JSON.
    """
    try:
        return _restore(json.loads(Path(path).read_text()))
    except OSError as error:
        raise RunFileError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise RunFileError(f"{path} is not JSON: {error}") from error


def plain(value: Any) -> Any:
    """Turn a value into what JSON knows: dicts with text keys, lists, text, finite numbers, ``None``.

    Raises:
        TypeError: A value has no such form.

    Example:
        >>> plain({"loss": float("nan"), 8: (1, Path("a/b"))})
        {'loss': 'NaN', '8': [1, 'a/b']}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # arrays and tensors, of any library, without importing it
        return plain(value.tolist())
    if hasattr(value, "name") and hasattr(value, "value"):
        return value.name
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


class MetricsLog:
    """``metrics.jsonl``: one line of JSON per logged step, on disk as soon as it is logged.

    A kill may cut the last line; opening the log again mends that, and :func:`read_metrics` ignores it.

    Args:
        path: The file.
        keep_until_step: Of a log that is there already, keep the lines up to and including this step (a
            resumed run writes the later ones again). ``None`` keeps all of them, 0 starts afresh where steps
            count from 1.

    Raises:
        RunFileError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, MetricsLog(Path(folder) / "metrics.jsonl") as log:
        ...     log.write({"train/loss": 0.7}, step=1)
        ...     [line["train/loss"] for line in read_metrics(log.path)]
        [0.7]
    """

    def __init__(self, path: str | Path, keep_until_step: int | None = None):
        self.path = Path(path)
        if self.path.exists():
            lines = _read_lines(self.path)
            if keep_until_step is not None:
                lines = [line for line in lines if line.get("step", 0) <= keep_until_step]
            write_text(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise RunFileError(f"cannot write {self.path}: {error.strerror or error}") from error

    def write(self, metrics: Mapping[str, Any], step: int) -> None:
        """Add one line: ``step``, ``time`` (seconds since 1970) and the metrics.

        Raises:
            RunFileError: The line cannot be written, such as on a full disk.
        """
        line = {"step": int(step), "time": round(time.time(), 3), **plain(metrics)}
        content = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(content) != len(content):  # the disk took a part of the line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.truncate(size)
            raise RunFileError(f"cannot write {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read a metrics log, also one that is being written or whose last line a kill has cut.

    Returns:
        One dict per line, in the order of writing; numbers that are not finite are floats again.

    Raises:
        RunFileError: The file is missing, or a line other than the last is damaged.
    """
    return [_restore(line) for line in _read_lines(Path(path))]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RunFileError(f"cannot read {path}: {error.strerror or error}") from error
    parsed = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            if number == len(lines):  # no newline behind it: cut off while it was written
                break
            raise RunFileError(f"{path}: line {number} is damaged: {line[:60]!r}") from None
        parsed.append(value)
    return parsed


def _restore(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _restore(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
