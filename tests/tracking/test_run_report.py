import re

import pytest

from snn.tracking import RunFileError, write_json, write_run_report
from snn.tracking.files import MetricsLog
from snn.tracking.run_figures import describe, main_metric, training_stages

from .summaries import LAYER_NAMES, SUMMARY, summary


def report_of(folder, contents):
    write_json(folder / "summary.json", contents)
    return write_run_report(folder).path.read_text()


def links(text):
    return re.findall(r"\]\(([^)]+)\)", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "conversion.md").write_text("# Conversion\n")
    (folder / "config.yaml").write_text("T: 8\n")
    with MetricsLog(folder / "metrics.jsonl") as log:
        for step in range(1, 6):
            log.write({"float/train/loss": 1 / step}, step)
        log.write({"float/validation/accuracy": 0.8, "float/validation/loss": 0.4}, 5)
    return folder


@pytest.fixture(scope="module")
def text(folder):
    return report_of(folder, SUMMARY)


def test_the_first_sentence_says_what_came_out(text):
    headline = text.splitlines()[2]
    assert headline == (
        "**bert on rotten_tomatoes: the spiking network reaches test accuracy 0.7880 with para_inf neurons "
        "at T = 8 (quantised ANN 0.7890, float ANN 0.7910); it predicts what the quantised ANN predicts for "
        "999 of 1,000 samples.**"
    )


def test_every_link_leads_to_a_file(folder, text):
    found = links(text)
    assert all((folder / link).is_file() for link in found)
    assert {link for link in found if link.endswith(".png")} == {
        f"figures/{name}.png"
        for name in (
            "accuracy_over_time",
            "spike_rate_per_layer",
            "spike_rate_heatmap",
            "error_by_depth",
            "training_curves",
        )
    }
    assert {"conversion.md", "config.yaml"} <= set(found)
    assert {p.suffix for p in (folder / "figures").iterdir()} == {".png", ".svg"}


@pytest.mark.parametrize(
    "row",
    [
        "| float ANN                             | – |    1000 |   0.7910 |",
        "| spiking network                       | 8 |    1000 |   0.7880 |",
        "| 3 |                 0.6800 |",
        "| t | accuracy at t (prefix) |",
        "| float ANN     |              0.8000 |    93.1 |",
    ],
)
def test_tables_hold_the_numbers(text, row):
    assert row in text.splitlines()


def test_facts_about_spikes_conversion_and_lineage(text):
    assert (
        "0.210 spikes per neuron per time step; 1,200,000 spikes per sample; 19,200 neurons in 50 layers."
        in text
    )
    assert "Plan: spiking layers 50, modules 120, replaced 6, appended 44." in text
    assert (
        "passed, max error 5.0e-06, mean error 2.0e-08, tolerance 1.0e-05, 63 of 64 predictions on 64 samples "
        "equal." in text
    )
    assert "117 ties within rounding among 1,228,800 codes." in text
    assert "Mean logit error against the float network 0.21, mostly from unevenness." in text
    assert re.search(r"\| spiking +\| +2\.1e-01 \| +6\.3e-01 \| +62 \| +64 \| +0\.7800 \|", text)
    assert "```bash\npython train.py model=bert neuron=para_inf T=8\n```" in text
    assert "- versions: `torch 2.14.1, snn 0.1.0`" in text
    assert "- seed: `3`" in text


def test_the_most_and_least_active_layers_are_listed(text):
    ordered = sorted(SUMMARY["layers"], key=lambda layer: -layer["rate"])
    rows = [line for line in text.splitlines() if line.startswith("| bert.")]
    named = [row.split("|")[1].strip() for row in rows]
    assert named[:10] == [layer["name"] for layer in ordered[:5] + ordered[-5:]]
    assert set(named) <= set(LAYER_NAMES)


def test_missing_parts_are_left_out(tmp_path):
    contents = summary(
        validation=None, verification=None, plan=None, layers=None, lineage=None, durations=None
    )
    contents["results"] = {"float": {"samples": 10, "metrics": {"accuracy": 0.5}}}
    del contents["command"], contents["seed"], contents["device"], contents["coding"]
    text = report_of(tmp_path, contents)
    assert "**bert on rotten_tomatoes: test accuracy float ANN 0.5000.**" in text
    assert re.findall("^## .*", text, re.M) == ["## Results (test split)"]
    assert links(text) == []
    assert not (tmp_path / "figures").exists()


def test_an_empty_summary_still_gives_a_report(tmp_path):
    assert report_of(tmp_path, {"status": "finished"}).startswith(f"# {tmp_path.name}")


def test_a_conversion_without_evaluation_is_headed_by_its_verification(tmp_path):
    text = report_of(tmp_path, summary(results=None, layers=None))
    assert (
        "**bert on rotten_tomatoes: spiking and quantised network differ by at most 5.0e-06 (passed).**"
        in text
    )


def test_a_failed_run_says_so_first(tmp_path):
    contents = summary(status="failed", error="TrainingError: the loss is nan at step 7", layers=None)
    contents["resume"] = "python train.py resume=outputs/a"
    contents["verification"] = None
    text = report_of(tmp_path, contents)
    assert text.splitlines()[2].startswith("**The run failed: TrainingError: the loss is nan at step 7.**")
    assert "To go on: `python train.py resume=outputs/a`." in text
    assert "0.7910" in text


def test_a_verification_that_failed_stands_out(tmp_path):
    contents = summary(layers=None, verification={"max_error": 0.5, "tolerance": 1e-5, "passed": False})
    assert "**FAILED**, max error 5.0e-01" in report_of(tmp_path, contents)


def test_causal_curves_have_no_prefix_note(tmp_path):
    contents = summary(layers=None, verification=None)
    contents["results"]["spiking"]["causal"] = True
    assert "refix" not in report_of(tmp_path, contents)


def test_long_curves_are_thinned_in_the_table(tmp_path):
    contents = summary(layers=None, verification=None)
    contents["results"]["spiking"]["per_timestep"] = {"accuracy": [t / 100 for t in range(1, 101)]}
    rows = re.findall(
        r"^\| +(\d+) \| +0\.\d+ \|$|^\| (\d+) \| +[01]\.\d+ \|$", report_of(tmp_path, contents), re.M
    )
    assert [int(a or b) for a, b in rows] == [1, 2, 4, 8, 16, 32, 64, 100]


def test_conversion_json_fills_what_the_summary_lacks(tmp_path):
    write_json(
        tmp_path / "conversion.json", {"verification": SUMMARY["verification"], "plan": SUMMARY["plan"]}
    )
    text = report_of(tmp_path, summary(verification=None, plan=None, layers=None))
    assert "max error 5.0e-06" in text
    assert "figures/error_by_depth.png" in text


def test_a_folder_without_summary_is_one_clear_line(tmp_path):
    with pytest.raises(RunFileError, match=r"cannot read .*summary\.json: No such file"):
        write_run_report(tmp_path)


def test_main_metric_prefers_accuracy():
    assert main_metric(SUMMARY) == "accuracy"
    assert main_metric({"results": {"quantized": {"metrics": {"matthews": 0.5}}}}) == "matthews"


def test_description_leaves_out_what_is_unknown():
    assert describe(SUMMARY) == "bert on rotten_tomatoes, para_inf (even), T = 8, 1,000 test samples"
    assert describe({}) == ""


def test_stages_that_count_from_one_again_follow_each_other():
    log = [
        {"step": 1, "stage": "float", "train/loss": 0.7},
        {"step": 2, "stage": "float", "train/loss": 0.6, "val/accuracy": 0.7},
        {"step": 1, "stage": "quantized", "train/loss": 0.65},
        {"step": 2, "stage": "quantized", "train/loss": 0.55, "val/accuracy": 0.75, "val/loss": 0.5},
    ]
    one, two = training_stages(log)
    assert (one["name"], one["loss"], one["metric"]) == ("float", [(1, 0.7), (2, 0.6)], [(2, 0.7)])
    assert (two["name"], two["loss"], two["metric"]) == ("quantized", [(3, 0.65), (4, 0.55)], [(4, 0.75)])
    assert two["validation_loss"] == [(4, 0.5)]


def test_stages_with_one_count_through_keep_their_steps():
    log = [{"step": s, f"{'float' if s < 3 else 'qat'}/train/loss": 1.0} for s in range(1, 5)]
    assert [stage["loss"] for stage in training_stages(log)] == [[(1, 1.0), (2, 1.0)], [(3, 1.0), (4, 1.0)]]


def test_a_log_of_nothing_trained_has_no_stages():
    assert training_stages([{"step": 1, "lr": 0.1, "train/loss": float("nan")}]) == []
