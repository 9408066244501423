"""TensorBoard's event files, read back with its own reader, against the files of the run, value for value."""

from __future__ import annotations

import csv
import io
import math
import sys

import pytest

from snn.errors import ConfigError
from snn.tracking.files import read_metrics
from snn.tracking.tracker import RunInfo, create_trackers

from .summaries import SUMMARY, summary

pytest.importorskip("tensorboard", reason="the package tensorboard is missing: pip install tensorboard")


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0, "images": 0})
    return found.Reload()


def scalars(events, tag):
    from tensorboard.util.tensor_util import make_ndarray

    return [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]


def text(events, name):
    return events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with create_trackers({"trackers": ["tensorboard"], "live": False}) as trackers:
        trackers.start(
            RunInfo({"T": 8, "model": {"name": "bert", "weights": None}, "rules": [{"a": 1}]}, folder)
        )
        for step in (1, 2, 3):
            trackers.log({"float/train/loss": 1 / step, "lr": 1e-5 * step, "note": "text"}, step)
        trackers.log({"float/validation/accuracy": 0.1 + 0.2}, 3)
        trackers.summary.update(summary(confusion={"labels": ["bad", "good"], "counts": [[40, 2], [3, 55]]}))
    return folder, read(folder)


def test_it_holds_the_metrics_of_the_files_to_the_last_digit(run):
    folder, events = run
    expected = {}
    for line in read_metrics(folder / "metrics.jsonl"):
        for key, value in line.items():
            if isinstance(value, float) and key not in ("time", "seconds"):
                expected.setdefault(key, []).append((line["step"], value))
    assert {"float/train/loss", "lr", "float/validation/accuracy"} <= set(expected)
    for key, values in expected.items():
        assert scalars(events, key) == values, key


def test_curves_have_the_time_step_where_others_have_the_step(run):
    _, events = run
    accuracy = SUMMARY["results"]["spiking"]["per_timestep"]["accuracy"]
    assert scalars(events, "test/accuracy_at_t") == list(enumerate(accuracy, 1))
    for layer in SUMMARY["layers"]:
        kept = scalars(events, f"spike_rate_at_t/{layer['name']}")
        assert kept == list(enumerate(layer["rate_per_timestep"], 1))


def test_tables_are_texts(run):
    folder, events = run
    assert "| bad   |            40 |              2 |" in text(events, "confusion")
    with (folder / "tables" / "verification.csv").open() as file:
        rows = list(csv.reader(file))
    lines = text(events, "verification").splitlines()
    assert len(lines) == len(rows) + 1
    assert rows[1][0] in lines[2]


def test_figures_are_kept_dot_by_dot(run):
    import numpy as np
    from PIL import Image

    folder, events = run
    figures = sorted((folder / "figures").glob("*.png"))
    assert len(figures) >= 4
    for path in figures:
        kept = events.Images(f"figures/{path.stem}")[0].encoded_image_string
        with Image.open(path) as original, Image.open(io.BytesIO(kept)) as copied:
            assert np.array_equal(np.asarray(original.convert("RGB")), np.asarray(copied.convert("RGB")))


def test_config_and_final_figures_are_hyperparameters(run):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    _, events = run
    metadata = events.summary_metadata["_hparams_/session_start_info"]
    given = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert given["T"].number_value == 8
    assert given["model/name"].string_value == "bert"
    assert given["rules"].string_value == "[{'a': 1}]"
    assert scalars(events, "final/spiking/metrics/accuracy") == [(0, 0.788)]
    assert text(events, "status") == "finished"


def test_a_resumed_run_forgets_what_came_after(tmp_path):
    # The reader of TensorBoard's server; the other one forgets scalars of the old kind alone.
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    for keep, steps in ((None, (1, 2, 3)), (2, (3, 4))):
        with create_trackers({"trackers": ["tensorboard"], "live": False}, keep_until_step=keep) as trackers:
            trackers.start(RunInfo({}, tmp_path))
            for step in steps:
                trackers.log({"loss": float(step if keep is None else -step)}, step)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert scalars(events, "loss") == [(1, 1.0), (2, 2.0), (3, -3.0), (4, -4.0)]


def test_numbers_that_are_not_finite_are_kept_and_failures_are_said(tmp_path):
    trackers = create_trackers({"trackers": ["tensorboard"], "live": False})
    trackers.start(RunInfo({}, tmp_path))
    trackers.log({"loss": math.inf}, 1)
    trackers.finish(status="failed")
    events = read(tmp_path)
    assert scalars(events, "loss") == [(1, math.inf)]
    assert text(events, "status") == "failed"


def test_without_the_package_there_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trackers = create_trackers({"trackers": ["tensorboard"], "live": False})
    with pytest.raises(
        ConfigError, match=r"tracking\.trackers: 'tensorboard' needs .*pip install tensorboard"
    ):
        trackers.start(RunInfo({}, tmp_path))
    trackers.finish()
