import csv
import math
from pathlib import Path

import pytest
import yaml

from snn.errors import ConfigError
from snn.tracking import TRACKERS, TrackingConfig, create_trackers, read_json, read_metrics
from snn.tracking.tracker import RunInfo, Tracker, Trackers

from .summaries import SUMMARY, summary
from .wandb_record import kept, record_of, table

CONF = Path(__file__).parents[2] / "conf" / "tracking"


class Recorder(Tracker):
    """Keeps what it is told; may fail on the way out."""

    def __init__(self, fail=False):
        super().__init__(TrackingConfig())
        self.calls, self.fail = [], fail

    def log(self, metrics, step):
        self.calls.append(("log", dict(metrics), step))

    def finish(self, summary, status):
        self.calls.append(("finish", status))
        if self.fail:
            raise OSError("no more")


def run_and_raise(trackers, folder, error):
    with trackers:
        trackers.start(RunInfo({"folder": folder.name}, folder))
        trackers.summary["T"] = 4
        raise error


def test_a_run_leaves_config_metrics_summary_report_and_tables(tmp_path):
    with create_trackers() as trackers:
        trackers.start(RunInfo({"T": 8, "path": Path("a")}, tmp_path, name="demo"))
        trackers.log({"train/loss": 0.5}, step=1)
        trackers.curve("lr@x", "x", [1, 2], [0.5, 0.25])
        trackers.summary.update(summary(name="demo"))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"T": 8, "path": "a"}
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["train/loss"] == 0.5
    assert read_json(tmp_path / "summary.json") == summary(name="demo")
    assert (tmp_path / "report.md").read_text().startswith("# demo")
    assert (tmp_path / "tables" / "lr@x.csv").read_text() == "x,lr@x\n1,0.5\n2,0.25\n"
    with (tmp_path / "tables" / "spike_rates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["rate"]) for row in rows] == [layer["rate"] for layer in SUMMARY["layers"]]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("a\nb"), "failed", "ValueError: a b"),
        (KeyboardInterrupt(), "interrupted", "interrupted"),
        (SystemExit(3), "failed", "SystemExit: 3"),
    ],
)
def test_a_body_that_raises_is_recorded_and_its_exception_goes_on(tmp_path, error, status, text):
    recorder = Recorder()
    trackers = create_trackers()
    trackers.trackers.append(recorder)
    with pytest.raises(type(error)) as raised:
        run_and_raise(trackers, tmp_path, error)
    assert raised.value is error
    assert read_json(tmp_path / "summary.json") == {"T": 4, "status": status, "error": text}
    assert recorder.calls == [("finish", status)]
    assert (tmp_path / "report.md").exists()


def test_leaving_with_exit_code_zero_is_no_failure(tmp_path):
    with pytest.raises(SystemExit):
        run_and_raise(create_trackers(), tmp_path, SystemExit(0))
    assert read_json(tmp_path / "summary.json")["status"] == "finished"


def test_every_tracker_is_closed_even_if_one_cannot_be():
    first, second = Recorder(fail=True), Recorder()
    with pytest.raises(OSError, match="no more"), Trackers([first, second]) as trackers:
        trackers.log({"a": 1.0}, step=1)
    assert second.calls == [("log", {"a": 1.0}, 1), ("finish", "finished")]


def test_a_tracker_that_fails_to_close_does_not_hide_the_first_error():
    with pytest.raises(ValueError, match="the reason"), Trackers([Recorder(fail=True)]):
        raise ValueError("the reason")


def test_finishing_by_hand_happens_once(tmp_path):
    recorder = Recorder()
    with Trackers([recorder]) as trackers:
        trackers.finish({"T": 1})
    assert recorder.calls == [("finish", "finished")]


def test_numbers_of_an_earlier_run_do_not_outlive_the_start_of_the_next(tmp_path):
    with create_trackers() as trackers:
        trackers.start(RunInfo({}, tmp_path))
        trackers.summary["T"] = 8
    again = create_trackers()
    again.start(RunInfo({}, tmp_path))
    assert read_json(tmp_path / "summary.json")["status"] == "unfinished"
    again.finish()


def test_a_resumed_run_goes_on_in_the_same_log(tmp_path):
    for keep, steps in ((None, (1, 2, 3)), (2, (3, 4))):
        with create_trackers(keep_until_step=keep) as trackers:
            trackers.start(RunInfo({}, tmp_path))
            for step in steps:
                trackers.log({"loss": 1.0}, step)
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_lengths_are_checked():
    with pytest.raises(ValueError, match="curve 'a': 1 values of t, 2 of the curve"):
        create_trackers().curve("a", "t", [1], [1, 2])
    with pytest.raises(ValueError, match="table 'a': 2 columns, but a row of 1"):
        create_trackers().table("a", ["x", "y"], [[1]])


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"tracking\.trackers: unknown name 'wandbb'; did you mean 'wandb'"):
        create_trackers({"trackers": ["wandbb"]})
    with pytest.raises(ConfigError, match=r"tracking\.projekt: no such key; did you mean 'project'"):
        create_trackers({"projekt": "x"})
    with pytest.raises(ConfigError, match=r"tracking\.mode: unknown mode 'offlin'; did you mean 'offline'"):
        create_trackers({"trackers": ["wandb"], "mode": "offlin"})


def test_the_environment_chooses_the_mode_where_the_config_does_not(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "nowhere")
    with pytest.raises(ConfigError, match="the environment variable WANDB_MODE: unknown mode 'nowhere'"):
        create_trackers({"trackers": ["wandb"]})
    create_trackers({"trackers": ["wandb"], "mode": "disabled"})


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_fits_the_schema(path):
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(OmegaConf.structured(TrackingConfig), OmegaConf.load(path))
    config = OmegaConf.to_object(merged)
    assert isinstance(config, TrackingConfig)
    assert set(config.trackers) <= set(TRACKERS.names())
    create_trackers(config)


RASTER = {
    "T": 3,
    "layers": [{"name": "a.act", "size": 9, "neurons": [0, 8], "spikes": [[1, 0, -1], [0, 0, 1]]}],
}
CONFUSION = {"labels": ["bad", "good"], "counts": [[40, 2], [3, 55]]}


def write_checkpoint(folder, stage, config_hash):
    folder.mkdir(parents=True)
    about = {"lineage": {"config_hash": config_hash}}
    (folder / "model.yaml").write_text(
        yaml.safe_dump({"stage": stage, "model": {"name": "bert"}, "about": about})
    )
    (folder / "model.safetensors").write_bytes(stage.encode())


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    parent = tmp_path_factory.mktemp("parent")
    write_checkpoint(parent / "checkpoint", "quantized", "0123456789")
    (folder / "page.html").write_text("<p>words</p>")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR"):
            patch.delenv(name, raising=False)
        patch.setenv("WANDB_DATA_DIR", str(tmp_path_factory.mktemp("staging")))
        config = {"trackers": ["wandb"], "project": "demo", "tags": ["a"], "notes": "why"}
        with create_trackers(config) as trackers:
            given = {"T": 8, "model": {"name": "bert", "weights": None}, "rules": [{"match": "re:.*"}]}
            trackers.start(RunInfo(given, folder, name="T8", group="sweep", kind="train"))
            for step in (1, 2, 3):
                trackers.log({"float/train/loss": 1 / step}, step)
            trackers.log({"float/train/loss": math.nan}, step=2)  # a resumed stage logs a step again
            write_checkpoint(folder / "checkpoint", "spiking", "abcdef0123")
            trackers.page("token_pages/0", folder / "page.html")
            lineage = {**SUMMARY["lineage"], "parents": [str(parent)]}
            trackers.summary.update(summary(raster=RASTER, confusion=CONFUSION, lineage=lineage))
    return folder, *record_of(folder)


def history(records):
    return [record["history"]["item"] for record in records if record["type"] == "history"]


def test_wandb_holds_the_same_metrics_as_the_files(offline):
    folder, _, records = offline
    logged = [item for item in history(records) if "float/train/loss" in item]
    lines = read_metrics(folder / "metrics.jsonl")
    assert [item["step"] for item in logged] == [line["step"] for line in lines] == [1, 2, 3, 2]
    for item, line in zip(logged, lines):
        assert str(float(item["float/train/loss"])) == str(line["float/train/loss"])


def test_wandb_holds_the_curve_against_the_time_step(offline):
    _, _, records = offline
    points = [(i["timestep"], i["test/accuracy_at_t"]) for i in history(records) if "test/accuracy_at_t" in i]
    assert points == list(enumerate(SUMMARY["results"]["spiking"]["per_timestep"]["accuracy"], start=1))
    metrics = {r["metric"].get("name"): r["metric"] for r in records if r["type"] == "metric"}
    assert metrics["test/accuracy_at_t"]["step_metric"] == "timestep"


def test_wandb_holds_the_spike_rate_of_the_network_against_the_time_step(offline):
    _, _, records = offline
    points = [item["test/spike_rate_at_t"] for item in history(records) if "test/spike_rate_at_t" in item]
    layers = SUMMARY["layers"]
    first = sum(layer["rate_per_timestep"][0] for layer in layers) / len(layers)  # all have as many neurons
    assert len(points) == 8
    assert points[0] == pytest.approx(first)


def test_wandb_holds_the_spike_rate_of_every_layer_against_the_time_step(offline):
    folder, run, records = offline
    rows = [item for item in history(records) if any(key.startswith("spike_rate_at_t/") for key in item)]
    assert [item["timestep"] for item in rows] == list(range(1, 9))
    metrics = {r["metric"].get("name"): r["metric"] for r in records if r["type"] == "metric"}
    for layer in SUMMARY["layers"]:
        name = f"spike_rate_at_t/{layer['name']}"
        assert [item[name] for item in rows] == layer["rate_per_timestep"]
        assert metrics[name]["step_metric"] == "timestep"
    kept = table(folder, run, "spike_rate_at_t_table")
    assert kept["columns"] == ["name", "timestep", "value"]
    first = SUMMARY["layers"][0]
    expected = [[first["name"], t, rate] for t, rate in enumerate(first["rate_per_timestep"], 1)]
    assert kept["data"][:8] == expected


def test_wandb_holds_the_raster_and_the_confusion_matrix(offline):
    folder, run, _ = offline
    kept = table(folder, run, "raster")
    assert kept["columns"] == ["layer", "neuron", "timestep", "sign"]
    assert kept["data"] == [["a.act", 0, 1, 1], ["a.act", 0, 3, -1], ["a.act", 8, 3, 1]]
    kept = table(folder, run, "confusion_table")
    assert kept["data"] == [
        ["bad", "bad", 40],
        ["bad", "good", 2],
        ["good", "bad", 3],
        ["good", "good", 55],
    ]
    with (folder / "tables" / "confusion.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["label", "taken for bad", "taken for good"],
            ["bad", "40", "2"],
            ["good", "3", "55"],
        ]
    for name in ("spike_raster", "confusion"):
        assert (folder / "figures" / f"{name}.png").exists()


def test_wandb_holds_pages(offline):
    folder, run, _ = offline
    assert "<p>words</p>" in kept(folder, run, "token_pages/0").read_text()


def test_wandb_knows_the_checkpoint_that_was_made_and_the_one_that_it_was_made_from(offline):
    _, _, records = offline
    artifacts = {r["artifact"]["name"]: r["artifact"] for r in records if r["type"] == "artifact"}
    made, used = artifacts["bert-spiking-abcdef01"], artifacts["bert-quantized-01234567"]
    assert used["use_after_commit"]
    assert not made.get("use_after_commit")
    for artifact in (made, used):
        assert artifact["type"] == "model"
        assert {file["path"] for file in artifact["manifest"]["contents"]} == {
            "model.yaml",
            "model.safetensors",
        }


def test_checkpoints_stay_at_home_where_the_config_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))
    write_checkpoint(tmp_path / "run" / "checkpoint", "spiking", None)
    with create_trackers({"trackers": ["wandb"], "mode": "offline", "checkpoints": False}) as trackers:
        trackers.start(RunInfo({}, tmp_path / "run"))
    _, records = record_of(tmp_path / "run")
    assert not any(record["type"] == "artifact" for record in records)


def test_wandb_holds_config_and_summary(offline):
    folder, run, _ = offline
    assert run["config"] == yaml.safe_load((folder / "config.yaml").read_text())
    assert run["summary"]["results/spiking/metrics/accuracy"] == 0.788
    assert run["summary"]["verification/max_error"] == 5e-6
    assert run["summary"]["lineage/versions/torch"] == "2.14.1"
    assert run["summary"]["status"] == "finished"
    assert (run["state"], run["exit_code"]) == ("finished", 0)
    assert (run["name"], run["project"], run["tags"], run["notes"]) == ("T8", "demo", ["a"], "why")


def test_wandb_holds_group_and_job_type(offline):
    _, _, records = offline
    run = next(record["run"] for record in records if record["type"] == "run")
    assert (run["run_group"], run["job_type"]) == ("sweep", "train")


def test_wandb_holds_tables_and_figures(offline):
    folder, run, _ = offline
    for name in ("spike_rates", "verification"):
        found = table(folder, run, name)
        rows = SUMMARY["layers"] if name == "spike_rates" else SUMMARY["verification"]["layers"]
        assert [dict(zip(found["columns"], row)) for row in found["data"]] == [
            {key: value for key, value in row.items() if key != "rate_per_timestep"} for row in rows
        ]
    for figure in (folder / "figures").glob("*.png"):
        assert kept(folder, run, f"figures/{figure.stem}").read_bytes() == figure.read_bytes()


def test_the_report_says_how_to_upload_the_record(offline):
    folder, _, _ = offline
    record = next(folder.glob("wandb/offline-run-*"))
    assert f"`wandb sync wandb/{record.name}`" in (folder / "report.md").read_text()


def test_runs_of_one_process_are_separate_and_closed_when_they_fail(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))
    for job, error in (("0", ValueError("nan")), ("1", KeyboardInterrupt())):
        with pytest.raises(type(error)):
            run_and_raise(create_trackers({"trackers": ["wandb"]}), tmp_path / job, error)
    assert wandb.run is None
    for job, code, status in (("0", 1, "failed"), ("1", 255, "interrupted")):
        run, _ = record_of(tmp_path / job)
        assert run["config"] == {"folder": job}
        assert (run["exit_code"], run["summary"]["status"]) == (code, status)


def test_disabled_mode_writes_nothing_of_wandb(tmp_path):
    with create_trackers({"trackers": ["wandb"], "mode": "disabled"}) as trackers:
        trackers.start(RunInfo({}, tmp_path))
        trackers.log({"loss": 1.0}, step=1)
    assert not (tmp_path / "wandb").exists()


def test_online_without_a_key_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    trackers = create_trackers({"trackers": ["wandb"], "mode": "online"})
    with pytest.raises(
        ConfigError, match=r"tracking\.mode: W&B cannot start .*tracking\.mode=offline needs no"
    ):
        trackers.start(RunInfo({}, tmp_path / "run"))
    trackers.finish()
