"""The workspace asks for nothing that runs do not record: every key in it, against the keys that runs write."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings

import pytest

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is missing: pip install wandb-workspaces")

from snn.tracking.publish import publish
from snn.tracking.run_figures import draw_run
from snn.tracking.tracker import Tracker
from snn.tracking.wandb_tracker import _flat
from snn.tracking.wandb_workspace import build_workspace

from .summaries import summary


class Keys(Tracker):
    """Which keys a run gives, as W&B gets them."""

    def __init__(self):
        self.metrics, self.tables, self.figures = set(), {"energy", "plan"}, set()

    def curve(self, name, x_name, xs, ys):
        self.metrics |= {name, x_name}

    def curves(self, name, x_name, xs, ys):
        self.metrics |= {f"{name}/{one}" for one in ys}

    def table(self, name, columns, rows):
        self.tables.add(name)

    def confusion(self, labels, counts):
        self.tables.add("confusion_table")

    def figure(self, name, path):
        self.figures.add(name)


@pytest.fixture(scope="module")
def panels():
    with warnings.catch_warnings(action="ignore"):  # of the package about itself, when it is imported
        model = build_workspace("me", "snn")._to_model()
    spec = json.loads(model.model_dump_json(by_alias=True))["spec"]
    sections = spec["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    confusion = {"labels": ["bad", "good"], "counts": [[40, 2], [3, 55]]}
    raster = {"T": 2, "layers": [{"name": "a", "size": 1, "neurons": [0], "spikes": [[0, 1]]}]}
    energy = {
        "verdict": "saves",
        "assumptions": [],
        "profile": {"name": "x"},
        "networks": [{"network": n, "energy_uj": 1.0, "of_float": 1.0} for n in ("float ANN", "spiking")],
        "parts": [{"part": "membranes", "float_uj": 0.0, "quantized_uj": 0.0, "spiking_uj": 1.0}],
    }
    made = summary(confusion=confusion, raster=raster, energy=energy)
    made["results"]["spiking"]["energy_uj"] = 1.0
    made["layers"], made["verification"]["layers"] = made["layers"][:2], made["verification"]["layers"][:2]
    found = Keys()
    publish(found, made, draw_run(made, [], folder), folder)
    found.summary = {key for key, _ in _flat(made)}
    found.metrics |= {"lr", "step", "float/train/loss", "float/validation/accuracy"}
    return found


def each(panels, kind):
    return [panel["config"] for own in panels.values() for panel in own if panel["viewType"] == kind]


def test_its_sections(panels):
    assert list(panels) == ["Result", "Spikes", "Energy", "Conversion", "Mistakes", "Training"]


def test_lines_show_metrics_that_are_logged_over_what_they_are_logged_over(panels, keys):
    plots = each(panels, "Run History Line Plot")
    assert len(plots) == 6
    for plot in plots:
        assert plot["xAxis"] in keys.metrics
        assert set(plot["metrics"]) <= keys.metrics
        if plot["metricRegex"]:
            assert any(re.fullmatch(plot["metricRegex"], key) for key in keys.metrics), plot["metricRegex"]
        assert plot["metrics"] or plot["metricRegex"]


def test_points_show_final_figures(panels, keys):
    plots = each(panels, "Scatter Plot")
    assert [plot["xAxis"] for plot in plots] == ["config:T.value", "summary:results/spiking/energy_uj"]
    for plot in plots:
        for axis in ("xAxis", "yAxis"):
            where, _, key = plot[axis].partition(":")
            assert where == "config" or key in keys.summary, key


def test_pictures_are_figures_of_runs(panels, keys):
    named = {key for browser in each(panels, "Media Browser") for key in browser["mediaKeys"]}
    assert len(named) == 5
    assert named <= keys.figures


def test_tables_are_tables_of_runs(panels, keys):
    text = json.dumps(each(panels, "Weave"))
    named = set(re.findall(r'"val": "(\w+)"', text))
    assert named == {"spike_rates", "energy", "verification", "plan", "confusion_table"}
    assert named <= keys.tables


def test_the_command_prints_what_it_would_send():
    command = [sys.executable, "-m", "snn.tracking.wandb_workspace"]
    done = subprocess.run([*command, "me/snn", "--metric=f1", "--show"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test/f1_at_t" in done.stdout
    done = subprocess.run([*command, "snn"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected USER/PROJECT; got 'snn'" in done.stderr
