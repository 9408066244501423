"""``evaluate.py analysis=...`` on a run of ``train.py``: what it leaves, and what it refuses."""

from __future__ import annotations

import csv
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import pytest

from snn.errors import ConfigError, SNNError
from snn.evaluation.analyses import create_analysis
from snn.evaluation.jobs import evaluate_checkpoint
from snn.evaluation.session import Session
from snn.neurons.execution import EXECUTIONS
from snn.tracking.files import read_json
from snn.tracking.sweep_jobs import read_jobs
from snn.tracking.tracker import create_trackers
from tests.scripts.composing import composed
from tests.tracking.wandb_record import kept, record_of
from tests.tracking.wandb_record import table as wandb_table

Run = tuple[Path, float]
SMALL = ["debug=tiny", "device=cpu", "threads=1", "evaluation.ann=false"]


def analysed(run: Run, folder: Path, *overrides: str) -> dict:
    evaluate_checkpoint(composed("evaluate", f"checkpoint={run[0]}", *overrides, *SMALL), folder)
    return read_json(folder / "summary.json")


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_what_tokens_leaves(text_run: Run, tmp_path: Path) -> None:
    summary = analysed(text_run, tmp_path, "analysis=tokens", "analysis.pages=3", "analysis.least_seen=1")
    found, samples = summary["tokens"], summary["results"]["spiking"]["samples"]
    assert found["samples"] == samples
    assert found["causal"] is False
    rows = table(tmp_path, "token_samples")
    assert [int(row["number"]) for row in rows] == list(range(samples))
    right = sum(row["right"] == "True" for row in rows)
    assert right / samples == pytest.approx(summary["results"]["spiking"]["metrics"]["accuracy"])
    counts = found["decision_times"]
    assert sum(sum(part) for part in counts.values()) == samples
    assert all(row["text"] and row["most_active"] for row in rows)
    # The layers' rates without the pooler, which has no tokens, are those of all tokens together.
    tokens = table(tmp_path, "token_rates")
    by_rate = sorted(float(row["rate"]) for row in tokens)
    most, least = ([entry["rate"] for entry in found[key]] for key in ("most_active", "least_active"))
    assert least == pytest.approx(by_rate[: len(least)])
    assert most == pytest.approx(by_rate[::-1][: len(most)])
    assert least[0] < most[0]
    assert sum(int(row["occurrences"]) for row in tokens) == sum(p["texts"] for p in found["places"])
    places = table(tmp_path, "token_rates_by_place")
    compared = 0
    for layer in summary["layers"]:
        own = [(int(r["texts"]), float(r["rate"])) for r in places if r["layer"] == layer["name"]]
        if own and "softmax" not in layer["name"]:  # whose neurons are more where a text is longer
            mean = sum(texts * rate for texts, rate in own) / sum(texts for texts, _ in own)
            assert mean == pytest.approx(layer["rate"], rel=1e-4), layer["name"]
            compared += 1
    assert compared >= len(summary["layers"]) / 2
    heads = table(tmp_path, "attention_and_spikes")
    assert len(heads) == len(found["attention"]) >= 2
    assert all(-1 <= float(row["correlation"]) <= 1 for row in heads if row["correlation"])
    pages = list((tmp_path / "tokens").glob("sample_*.html"))
    assert len(pages) == 3
    assert all(page.with_suffix(".png").is_file() for page in pages)
    report = (tmp_path / "report.md").read_text()
    assert "(tokens/index.html)" in report
    assert (tmp_path / "tokens" / "index.html").is_file()
    for name in ("spike_rate_by_place", "attention_and_spikes", "decision_times"):
        assert f"(figures/{name}.png)" in report
        assert (tmp_path / "figures" / f"{name}.png").is_file()


def test_wandb_gets_what_tokens_finds(
    text_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path_factory.mktemp("staging")))
    options = ("analysis=tokens", "analysis.pages=2", "tracking=wandb", "tracking.mode=offline")
    analysed(text_run, tmp_path, *options)
    run, _ = record_of(tmp_path)
    for name in ("token_samples", "token_rates", "token_rates_by_place", "attention_and_spikes"):
        found, rows = wandb_table(tmp_path, run, name), table(tmp_path, name)
        assert len(found["data"]) == len(rows) > 0
        assert found["columns"] == list(rows[0])
    for name in ("spike_rate_by_place", "attention_and_spikes", "decision_times"):
        figure = tmp_path / "figures" / f"{name}.png"
        assert kept(tmp_path, run, f"figures/{name}").read_bytes() == figure.read_bytes()
    pages = [name for name in run["summary"] if name.startswith("token_pages/")]
    assert len(pages) == 2


def test_tokens_of_neurons_that_settle(bipolar_run: Run, tmp_path: Path) -> None:
    """Step by step: samples leave on the way. No page is asked for."""
    options = ("analysis=tokens", "analysis.pages=0", "execution=stepwise")
    summary = analysed(bipolar_run, tmp_path, *options)
    found, spiking = summary["tokens"], summary["results"]["spiking"]
    assert found["causal"] is True
    assert sum(map(sum, found["decision_times"].values())) == spiking["samples"]
    assert {path.name for path in (tmp_path / "tokens").iterdir()} == {"index.html"}
    # After its last decision a sample's prediction is final, so accuracy at t cannot be less than what is decided by t.
    decided = accumulate(found["decision_times"]["right"])
    for done, accuracy in zip(decided, spiking["per_timestep"]["accuracy"], strict=True):
        assert done / spiking["samples"] <= accuracy + 1e-6


@pytest.mark.parametrize("criterion", ["margin", "entropy"])
def test_what_early_exit_leaves(bipolar_run: Run, tmp_path: Path, criterion: str) -> None:
    summary = analysed(
        bipolar_run,
        tmp_path,
        "analysis=early_exit",
        f"analysis.criterion={criterion}",
        "analysis.tolerance=0.1",
    )
    found, spiking = summary["early_exit"], summary["results"]["spiking"]
    T = spiking["T"]
    assert found["reported"]["score_at_T"] == pytest.approx(spiking["metrics"]["accuracy"])
    assert found["reported"]["per_timestep"] == pytest.approx(spiking["per_timestep"]["accuracy"])
    assert found["validation"]["score"] >= found["validation"]["score_at_T"] - 0.1
    assert 1 <= found["validation"]["mean_steps"] < spiking["mean_steps"] < T
    exits = found["reported"]["exits_per_timestep"]
    assert (sum(exits), len(exits)) == (spiking["samples"], T)
    mean = sum(n * t for t, n in enumerate(exits, 1)) / sum(exits)
    assert mean == pytest.approx(found["reported"]["mean_steps"])
    # What a sample does after it has stopped costs nothing.
    assert 0 < found["reported"]["energy_uj"] < spiking["energy_uj"]
    assert 0 < found["reported"]["spikes_per_sample"] < spiking["spikes_per_sample"]
    rows = table(tmp_path, "early_exit")
    assert len(rows) == len(found["thresholds"])
    assert rows[-1]["threshold"] == ""  # no early exit
    assert float(rows[-1]["reported_mean_steps"]) == pytest.approx(spiking["mean_steps"])  # settled
    assert float(rows[-1]["reported_accuracy"]) == pytest.approx(spiking["metrics"]["accuracy"])
    report = (tmp_path / "report.md").read_text()
    assert "## Early exit" in report
    assert "(figures/early_exit.png)" in report
    assert "validation (chosen on)" in report
    assert "*Prefix*: the neurons" not in report


def test_early_exit_of_pictures_with_neurons_that_are_not_causal(image_run: Run, tmp_path: Path) -> None:
    summary = analysed(image_run, tmp_path, "analysis=early_exit")
    assert summary["early_exit"]["causal"] is False
    assert "energy_uj" not in summary["early_exit"]["reported"]
    report = (tmp_path / "report.md").read_text()
    assert "*Prefix*: the neurons are not causal, so a network that really stops" in report


@pytest.mark.parametrize(
    ("run", "overrides", "modes"),
    [
        ("text_run", [], ["parallel", "collapsed"]),
        ("bipolar_run", ["execution=stepwise"], list(EXECUTIONS)),
    ],
)
def test_what_latency_leaves(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    run: str,
    overrides: list[str],
    modes: list[str],
) -> None:
    options = ["analysis=latency", "analysis.batch_sizes=[1,4]", "analysis.calls=2", *overrides]
    summary = analysed(request.getfixturevalue(run), tmp_path, *options)
    found, T = summary["latency"], summary["T"]
    assert [(t["batch"], t["execution"]) for t in found["timings"]] == [(b, m) for b in (1, 4) for m in modes]
    own = next(t for t in found["timings"] if t["execution"] == found["execution"])
    assert (found["milliseconds"], found["batch"]) == (own["milliseconds"], 1)
    assert found["execution"] == ("stepwise" if overrides else "parallel")
    names = [layer["name"] for layer in summary["layers"]]
    beside = sum(name.endswith("attention.self.query") for name in names)
    assert found["layers"] == len(names) - 2 * beside, "query, key and value do not wait for each other"
    assert found["steps"] == (found["layers"] + T - 1 if found["causal"] else found["layers"] * T)
    assert table(tmp_path, "latency")[0]["milliseconds"] == str(found["timings"][0]["milliseconds"])
    report = (tmp_path / "report.md").read_text()
    assert "## Latency" in report
    assert "Time to decision, the first step from which" in report
    decided = summary["results"]["spiking"]["decisions_per_timestep"]
    assert (sum(decided), len(decided)) == (summary["results"]["spiking"]["samples"], T)
    (job,) = read_jobs(tmp_path)
    assert (job.facts["latency (ms)"], job.facts["latency batch"]) == (found["milliseconds"], 1)
    assert 1 <= job.facts["decision step"] <= T


@pytest.mark.parametrize(
    ("run", "overrides", "expected"),
    [
        ("image_run", ["analysis=tokens"], "analysis=tokens is about words; dataset=digits is image"),
        (
            "text_run",
            ["analysis=early_exit", "evaluation.split=validation"],
            "chooses its threshold on the validation split",
        ),
        (
            "text_run",
            ["analysis=latency", "analysis.batch_sizes=[1,4096]"],
            r"analysis\.batch_sizes: 4096 is more than the \d+ samples of synthetic_text's test split",
        ),
        (
            "text_run",
            ["evaluation.split=tst"],
            r"evaluation\.split: dataset=synthetic_text has no split 'tst'; did you mean 'test'",
        ),
    ],
)
def test_what_is_refused_before_any_work(
    request: pytest.FixtureRequest, tmp_path: Path, run: str, overrides: list[str], expected: str
) -> None:
    folder = request.getfixturevalue(run)
    with pytest.raises(ConfigError, match=expected) as error:
        analysed(folder, tmp_path, *overrides)
    assert "\n" not in str(error.value)
    assert "results" not in read_json(tmp_path / "summary.json")


def test_early_exit_of_measurements_is_refused(tmp_path: Path) -> None:
    config = composed("evaluate", "checkpoint=x", "dataset=stsb", "analysis=early_exit")
    analysis = create_analysis(config.analysis)
    assert analysis is not None
    with pytest.raises(ConfigError, match="dataset=stsb has measurements"):
        analysis.check(Session(config, tmp_path, create_trackers()))


def test_early_exit_of_a_single_class_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("evaluate", "checkpoint=x", "dataset=sst2", "analysis=early_exit")
    analysis, session = create_analysis(config.analysis), Session(config, tmp_path, create_trackers())
    monkeypatch.setattr(Session, "data", SimpleNamespace(num_classes=1))
    assert analysis is not None
    with pytest.raises(ConfigError, match="dataset=sst2 has one"):
        analysis.check(session)


def test_wrong_names_are_refused_by_the_config() -> None:
    with pytest.raises(SNNError, match=r"analysis\.tolerance must be at least 0"):
        composed("evaluate", "checkpoint=x", "analysis=early_exit", "analysis.tolerance=-1")
