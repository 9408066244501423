"""The Hydra callback that ends every sweep with its report, also, and above all, when jobs failed.

hydra:
  callbacks:
    sweep_report: {_target_: snn.tracking.sweep.SweepReport}
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from snn.tracking.files_tracker import record_failure
from snn.tracking.sweep_jobs import Job
from snn.tracking.sweep_report import PAGE, write_sweep_report

__all__ = ["SweepReport", "write_sweep_report"]


class SweepReport(Callback):
    """Write a sweep's report and print its table when the last job is done.

    Hydra does not call ``on_multirun_end`` when a job has raised, or at Ctrl-C: it raises the first job's
    error and exits with 1. That is when a report is needed most, so it is also written at the exit of the
    process, which leaves the error and the exit code as they are.
    """

    def __init__(self) -> None:
        self._sweep_dir: str | None = None
        self._elsewhere: list[str] = []

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._sweep_dir = os.path.abspath(config.hydra.sweep.dir)
        atexit.register(self._report)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        atexit.unregister(self._report)
        failed = self._report()
        if failed:
            # A script may have told its error without raising it. Hydra turns what a callback raises into a
            # warning, but not this.
            raise SystemExit(1)

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """Record the error of a job that raised outside of its trackers, such as a wrong config value."""
        error = job_return._return_value  # `return_value` would raise it
        if job_return.status.name == "FAILED":
            record_failure(config.hydra.runtime.output_dir, error)
        folder = Path(config.hydra.runtime.output_dir)
        if self._sweep_dir is not None and not folder.is_relative_to(self._sweep_dir):
            self._elsewhere.append(str(folder))

    def _report(self) -> list[Job]:
        sweep_dir, self._sweep_dir = self._sweep_dir, None
        if sweep_dir is None:
            return []
        if self._elsewhere:
            listed = "".join(f"\n  {path}" for path in self._elsewhere)
            _say(f"\nNot in the report, because hydra.sweep.dir depends on what is swept:{listed}\n")
        if not any(Path(sweep_dir).rglob(".hydra/overrides.yaml")):
            _say(f"\nNo report: {sweep_dir} holds no job.\n")
            return []
        report = write_sweep_report(sweep_dir)
        _say(f"\n{report.text}\n\nReport: {report.path}\nPage: {report.path.with_name(PAGE)}\n")
        return [job for job in report.jobs if job.status in ("failed", "interrupted")]


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
