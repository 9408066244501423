import json
import math
import os
import resource
import signal
import subprocess
import sys
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from snn.errors import SNNError
from snn.tracking.files import (
    MetricsLog,
    RunFileError,
    plain,
    read_json,
    read_metrics,
    write_bytes,
    write_json,
    write_text,
)


class Order(Enum):
    EVEN = 1


def test_json_round_trip_keeps_every_value(tmp_path):
    value = {"a": [1, 2.5, None, True, "tëxt"], "b": {"c": math.inf, "d": -math.inf}}
    path = write_json(tmp_path / "new" / "summary.json", value)
    assert read_json(path) == value


def test_numbers_that_are_not_finite_never_break_a_strict_reader(tmp_path):
    path = write_json(tmp_path / "s.json", {"loss": math.nan, "top": math.inf})

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {"loss": "NaN", "top": "Infinity"}
    assert math.isnan(read_json(path)["loss"])


def test_plain_takes_arrays_paths_enums_and_sets():
    value = {"x": np.float32(0.5), "y": np.arange(3), "p": Path("a"), "o": Order.EVEN, "s": {2, 1}}
    assert plain(value) == {"x": 0.5, "y": [0, 1, 2], "p": "a", "o": "EVEN", "s": [1, 2]}
    with pytest.raises(TypeError, match="object has no JSON form"):
        plain({"x": object()})


def test_a_value_without_json_form_leaves_the_old_file(tmp_path):
    path = write_json(tmp_path / "s.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}


def test_failed_rename_keeps_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = write_text(tmp_path / "report.md", "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        RunFileError, match=r"report\.md: No space left on device; the earlier file is kept"
    ) as error:
        write_text(path, "new")
    assert isinstance(error.value, SNNError)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]


def test_disk_that_fills_up_while_writing_keeps_the_old_file(tmp_path):
    path = write_text(tmp_path / "report.md", "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(RunFileError, match="the earlier file is kept"):
            write_bytes(path, b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]


def test_a_path_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunFileError, match=r"cannot write .*file/summary\.json: (Not a directory|File exists)"
    ):
        write_json(tmp_path / "file" / "summary.json", {})


def test_written_files_have_the_usual_permissions(tmp_path):
    mask = os.umask(0o022)
    try:
        assert write_text(tmp_path / "a", "").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(mask)


def test_read_json_names_the_file(tmp_path):
    with pytest.raises(RunFileError, match=r"cannot read .*absent\.json: No such file"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(RunFileError, match=r"cut\.json is not JSON"):
        read_json(tmp_path / "cut.json")


def test_metrics_are_on_disk_as_soon_as_they_are_logged(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write({"train/loss": math.nan, "stage": "float"}, step=1)
        log.write({"train/loss": np.float64(0.25)}, step=2)
        lines = read_metrics(log.path)
    assert [line["step"] for line in lines] == [1, 2]
    assert math.isnan(lines[0]["train/loss"])
    assert lines[1]["train/loss"] == 0.25
    assert lines[0]["stage"] == "float"
    assert lines[0]["time"] <= lines[1]["time"]


def test_a_killed_process_leaves_every_logged_line(tmp_path):
    code = (
        "import os, signal; from snn.tracking.files import MetricsLog\n"
        f"log = MetricsLog({str(tmp_path / 'm.jsonl')!r})\n"
        "for step in range(1, 101): log.write({'loss': 1 / step}, step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert [line["loss"] for line in read_metrics(tmp_path / "m.jsonl")] == [1 / s for s in range(1, 101)]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_last_line_that_was_cut_is_ignored_and_mended(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    whole = '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n'
    path.write_text(whole + '{"step": 3, "loss": 0.3}'[:-cut])
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    with MetricsLog(path) as log:
        log.write({"loss": 0.3}, step=3)
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]


def test_resuming_drops_the_lines_after_the_resumed_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in range(1, 6):
            log.write({"loss": float(step)}, step)
    with MetricsLog(path, keep_until_step=3) as log:
        log.write({"loss": -4.0}, step=4)
    assert [(line["step"], line["loss"]) for line in read_metrics(path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, -4.0),
    ]


def test_damage_in_the_middle_is_an_error_and_touches_nothing(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(RunFileError, match=r"metrics\.jsonl: line 2 is damaged"):
        read_metrics(path)
    with pytest.raises(RunFileError, match="line 2 is damaged"):
        MetricsLog(path)
    assert path.read_text() == '{"step": 1}\n{"ste\n{"step": 3}\n'


def test_a_full_disk_while_logging_is_one_clear_line(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log.write({"loss": 1.0}, step=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 5, before[1]))
    try:
        with pytest.raises(RunFileError, match=r"cannot write .*metrics\.jsonl: No space left"):
            log.write({"loss": 1.0}, step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    log.write({"loss": 3.0}, step=3)
    log.close()
    assert [line["step"] for line in read_metrics(log.path)] == [1, 3]
