"""SpikingBERT by the common commands: trained, measured, kept, measured again."""

from __future__ import annotations

from pathlib import Path

import pytest

import snn
from snn.evaluation.jobs import evaluate_checkpoint
from snn.models import load_tokenizer
from snn.tracking.files import read_json
from tests.scripts.composing import composed
from tests.scripts.conftest import Train

SMALL = [
    "model=spikingbert",
    "model.args.hidden_size=16",
    "model.args.num_hidden_layers=2",
    "model.args.num_attention_heads=2",
    "model.args.intermediate_size=24",
    "dataset=synthetic_text",
    "optimizer=bert_adam",
    "debug=tiny",
    "device=cpu",
    "threads=1",
    "T=3",
]


@pytest.mark.parametrize(
    "gradient",
    [[], ["model.args.gradient=implicit", "model.args.feedback=true"]],
    ids=["replace", "implicit"],
)
def test_it_is_trained_and_measured_again(
    train: Train, tokenizer_folder: Path, tmp_path: Path, gradient: list[str]
) -> None:
    folder, accuracy = train(*SMALL, f"model.tokenizer={tokenizer_folder}", *gradient)
    results = read_json(folder / "summary.json")["results"]
    assert results["spiking"]["metrics"]["accuracy"] == accuracy
    assert len(results["spiking"]["per_timestep"]["accuracy"]) == 3
    model = snn.load(folder)
    assert model.embeddings.words.num_embeddings == len(load_tokenizer(tokenizer_folder))
    assert (model.T, model.feedback is not None) == (3, bool(gradient))
    again = evaluate_checkpoint(
        composed("evaluate", f"checkpoint={folder}", "device=cpu"), tmp_path / "again"
    )
    assert again == accuracy
    for run in (folder, tmp_path / "again"):
        energy = read_json(run / "energy.json")
        assert (energy["T"], len(energy["energy_uj_per_timestep"])) == (3, 3)
        spent = {row["part"]: row for row in energy["parts"]}
        assert spent["layers on spikes"]["acs"] > 0
        assert spent["layers on spikes"]["macs"] == spent["attention on spikes"]["macs"] == 0
        assert spent["attention on spikes"]["float_uj"] > 0
        assert (run / "figures" / "energy_by_part.png").is_file()
        assert "spiking network, T = 3" in (run / "report.md").read_text()


def test_its_plan(tokenizer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from snn.training.experiment import run

    run(composed("train", *SMALL, f"model.tokenizer={tokenizer_folder}", "plan=true"), tmp_path)
    shown = capsys.readouterr().out
    assert "neurons in 13 layers" in shown, "the embedding's, and six of each encoder layer"
    assert "12 of 17 matrix products" in shown
    assert "analog, once" in shown
    assert "analog × spikes" in shown
