"""What a run leaves behind: files, W&B, figures and reports. It works on plain dicts and files."""

from snn.tracking.files import (
    MetricsLog,
    RunFileError,
    read_json,
    read_metrics,
    write_bytes,
    write_json,
    write_text,
)
from snn.tracking.files_tracker import record_failure
from snn.tracking.report import write_run_report
from snn.tracking.schema import TrackingConfig
from snn.tracking.sweep_report import write_sweep_report
from snn.tracking.table import markdown_table, text_table
from snn.tracking.tracker import TRACKERS, RunInfo, Tracker, Trackers, create_trackers

__all__ = [
    "TRACKERS",
    "MetricsLog",
    "RunFileError",
    "RunInfo",
    "Tracker",
    "Trackers",
    "TrackingConfig",
    "create_trackers",
    "markdown_table",
    "read_json",
    "read_metrics",
    "record_failure",
    "text_table",
    "write_bytes",
    "write_json",
    "write_run_report",
    "write_sweep_report",
    "write_text",
]
