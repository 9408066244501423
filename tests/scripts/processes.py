"""The real scripts in processes of their own, forked from one that has loaded torch, so that each starts at once."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["torch", "transformers", "accelerate", "snn.training.experiment"])


class Script:
    """A started script.

    Args:
        name: ``train``, ``convert`` or ``evaluate``.
        arguments: Of its command line.
        folder: Where what it prints is kept.
        file_limit: Largest file in bytes that it can write: beyond that the disk is full.
    """

    def __init__(self, name: str, arguments: list[str], folder: Path, file_limit: int | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / "stdout.txt", folder / "stderr.txt"
        self.process = _SERVER.Process(
            target=_run, args=(name, arguments, self._out, self._err, file_limit), daemon=True
        )
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, limit: float = 120) -> int:
        """The exit code; minus the signal's number if one ended it."""
        self.process.join(limit)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {limit} s:\n{self.err}")
        return self.process.exitcode

    @property
    def out(self) -> str:
        return self._out.read_text() if self._out.exists() else ""

    @property
    def err(self) -> str:
        return self._err.read_text() if self._err.exists() else ""

    @property
    def errors(self) -> list[str]:
        """Lines that say what went wrong; never a traceback."""
        assert "Traceback" not in self.err + self.out, self.err + self.out
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    def wait_for_line(self, path: Path, key: str, step: int) -> dict[str, Any]:
        """The first line of a metrics log that has ``key`` and is at ``step`` or later; polls the file."""
        give_up = time.monotonic() + 120
        while time.monotonic() < give_up:
            alive = self.process.is_alive()
            for line in lines(path):
                if key in line and line["step"] >= step:
                    assert alive, f"ended before it could be stopped:\n{self.err}"
                    return line
            assert alive, f"ended before step {step} of {key}:\n{self.err}"
            self.process.join(0.002)
        raise AssertionError(f"no step {step} of {key} in {path}:\n{self.err}")


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log that may be being written."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _run(name: str, arguments: list[str], out: Path, err: Path, file_limit: int | None) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        with path.open("wb") as stream:
            os.dup2(stream.fileno(), descriptor)
    # A background job of a plain shell inherits that Ctrl-C is ignored; a script at a terminal does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    script = ROOT / f"{name}.py"
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        # What multiprocessing leaves out at the end of a process.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
