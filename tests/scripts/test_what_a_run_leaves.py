"""Everything that a training run leaves, and that its figures are true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from snn.conversion.checkpoint import load_checkpoint
from snn.conversion.quantize import quantizers
from snn.data.load import load_dataset
from snn.data.schema import DatasetConfig
from snn.tracking.files import read_json, read_metrics
from tests.scripts.composing import composed

SAFE = {".safetensors", ".yaml", ".json", ".jsonl", ".md", ".csv", ".png", ".svg", ".log", ".txt"}


def data_of(folder: Path) -> Any:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    tokenizer = None
    if config["dataset"]["kind"] == "text":
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder / "checkpoint")
    return load_dataset(DatasetConfig(**config["dataset"]), seed=config["seed"], tokenizer=tokenizer)


def split_logits(net: torch.nn.Module, loader: Any, spiking: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Read-outs ``[T or 1, N, C]`` and labels of a whole split, by nothing but calls of the network."""
    found, labels = [], []
    with torch.no_grad():
        for batch in loader:
            inputs = {k: v for k, v in batch.items() if k != "labels"}
            image = inputs.get("pixel_values")
            output = net(image) if image is not None and not spiking else net(**inputs)
            logits = getattr(output, "logits", output)
            found.append(logits if spiking else logits[None])
            labels.append(batch["labels"])
    return torch.cat(found, 1), torch.cat(labels)


def test_the_files(finished: Path) -> None:
    expected = [
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "report.md",
        "conversion.md",
        "conversion.json",
    ]
    expected += [
        f"{f}/{n}" for f in ("checkpoint", "stages/float") for n in ("model.yaml", "model.safetensors")
    ]
    expected += [
        "figures/accuracy_over_time.png",
        "energy.json",
        "tables/energy.csv",
        "figures/energy_by_part.png",
    ]
    expected += ["figures/spike_rate_per_layer.png", "figures/training_curves.png", "tables/spike_rates.csv"]
    for name in expected:
        assert (finished / name).stat().st_size > 0, name


def test_no_file_is_pickled_or_left_half(finished: Path) -> None:
    files = [path for path in finished.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= SAFE
    assert not [path for path in finished.rglob(".*") if ".hydra" not in path.parts]


def test_the_saved_config_composes_to_itself(finished: Path) -> None:
    from omegaconf import OmegaConf

    from snn.checks import check
    from snn.config import Config, typed

    saved = OmegaConf.load(finished / "config.yaml")
    config = typed(saved)  # type: ignore[arg-type]
    assert isinstance(config, Config)
    check(config, "train")
    assert OmegaConf.to_container(OmegaConf.structured(config)) == OmegaConf.to_container(saved)
    assert "${" not in (finished / "config.yaml").read_text()


def test_the_log(finished: Path) -> None:
    config = yaml.safe_load((finished / "config.yaml").read_text())
    lines = read_metrics(finished / "metrics.jsonl")
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps)
    epochs = config["training"]["float"]["epochs"]
    per_epoch = -(-config["dataset"]["limit_train"] // config["training"]["batch_size"])
    floats = [line for line in lines if "float/train/loss" in line]
    assert [line["step"] for line in floats] == list(range(1, epochs * per_epoch + 1))
    assert floats[-1]["lr"] == 0.0
    assert len([line for line in lines if "float/validation/accuracy" in line]) == epochs
    health = next(line for line in lines if "quantized/health/dead_channels" in line)
    for key in ("threshold_crossed", "dead_channels", "saturated", "clipped", "unused_levels"):
        assert 0 <= health[f"quantized/health/{key}"] <= 1


def test_the_summary_holds_what_it_should(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    assert summary["status"] == "finished"
    assert {"name", "command", "seed", "T", "neuron", "coding", "device", "durations", "dataset"} <= set(
        summary
    )
    lineage = summary["lineage"]
    assert lineage["parents"] == []
    assert len(lineage["config_hash"]) == 16
    assert torch.__version__.startswith(lineage["versions"]["torch"])
    assert lineage["data_fingerprint"] == data_of(finished).fingerprint
    assert set(summary["results"]) == {"float", "calibrated", "quantized", "spiking"}
    assert set(summary["validation"]) == {"float", "calibrated", "quantized"}
    assert "resume" not in summary  # it is finished
    assert not (finished / "resume").exists()


def test_accuracy_and_agreement_are_those_of_the_saved_networks(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    test = data_of(finished).loader("test", 7, bucket=False)
    quantized = load_checkpoint(finished / "checkpoint", spiking=False)
    before, labels = split_logits(quantized, test, spiking=False)
    after, _ = split_logits(load_checkpoint(finished / "checkpoint"), test, spiking=True)
    results = summary["results"]
    assert results["spiking"]["samples"] == len(labels)
    accuracy = (after.argmax(-1) == labels).double().mean(1)
    assert results["spiking"]["per_timestep"]["accuracy"] == pytest.approx(accuracy.tolist())
    assert results["spiking"]["metrics"]["accuracy"] == pytest.approx(float(accuracy[-1]))
    right = (before[0].argmax(-1) == labels).double().mean()
    assert results["quantized"]["metrics"]["accuracy"] == pytest.approx(float(right))
    same = int((after[-1].argmax(-1) == before[0].argmax(-1)).sum())
    assert results["spiking"]["agreement"] == {"same_prediction": same, "samples": len(labels)}
    loss = -after[-1].log_softmax(-1)[range(len(labels)), labels].mean()
    assert results["spiking"]["metrics"]["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_every_sample_keeps_its_class(finished: Path) -> None:
    agreement = read_json(finished / "summary.json")["results"]["spiking"]["agreement"]
    assert agreement["same_prediction"] == agreement["samples"]


def test_spike_rates_follow_from_the_codes_of_the_quantised_network(image_run: tuple[Path, float]) -> None:
    """ParaInf spends one spike on each level, so the codes tell the rates, with no neuron involved."""
    folder = image_run[0]
    summary = read_json(folder / "summary.json")
    model = load_checkpoint(folder / "stages" / "quantized")
    codes: dict[str, list[torch.Tensor]] = {}
    for name, quantizer in quantizers(model).items():

        def look(module: Any, args: Any, output: torch.Tensor, name: str = name) -> None:
            step = (module.threshold.detach().abs() / module.levels).reshape(1, -1, 1, 1)
            codes.setdefault(name, []).append((output / step).round().flatten(1))

        quantizer.register_forward_hook(look)
    split_logits(model, data_of(folder).loader("test", 11), spiking=False)
    spikes = {name: torch.cat(parts).abs() for name, parts in codes.items()}
    total = sum(float(s.double().sum()) for s in spikes.values())
    neurons = sum(s.shape[1] for s in spikes.values())
    samples = summary["results"]["spiking"]["samples"]
    assert summary["results"]["spiking"]["spikes_per_sample"] == pytest.approx(total / samples, rel=1e-3)
    assert summary["results"]["spiking"]["spike_rate"] == pytest.approx(
        total / samples / neurons / 4, rel=1e-3
    )
    assert {layer["name"]: layer["rate"] for layer in summary["layers"]} == pytest.approx(
        {name: float(s.double().mean()) / 4 for name, s in spikes.items()}, rel=1e-2
    )


def test_layers_add_up_to_the_whole(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    spiking, layers = summary["results"]["spiking"], summary["layers"]
    T = spiking["T"]
    spikes = sum(layer["rate"] * layer["neurons"] * T for layer in layers)
    assert spikes == pytest.approx(spiking["spikes_per_sample"])
    assert spikes / sum(layer["neurons"] for layer in layers) / T == pytest.approx(spiking["spike_rate"])
    for layer in layers:
        assert len(layer["rate_per_timestep"]) == T
        assert layer["positive_rate"] + layer["negative_rate"] == pytest.approx(layer["rate"])


def test_the_reports_name_the_figures_of_the_summary(finished: Path) -> None:
    summary = read_json(finished / "summary.json")
    report = (finished / "report.md").read_text()
    spiking = summary["results"]["spiking"]
    assert "figures/accuracy_over_time.png" in report
    assert f"{spiking['metrics']['accuracy']:.4f}" in report
    assert f"{spiking['agreement']['samples']}" in report
    conversion = (finished / "conversion.md").read_text()
    verification = read_json(finished / "conversion.json")["verification"]
    assert verification["passed"]
    assert verification["verdict"].lower() in conversion.lower()
    for layer in summary["layers"]:
        assert f"| `{layer['name']}` |" in conversion


def test_what_run_returns_is_the_accuracy(text_run: tuple[Path, float]) -> None:
    folder, value = text_run
    assert value == read_json(folder / "summary.json")["results"]["spiking"]["metrics"]["accuracy"]


def test_training_learns(finished: Path) -> None:
    """Better than always the commonest class, so that the other tests look at networks that do something."""
    summary = read_json(finished / "summary.json")
    chance = 1 / data_of(finished).num_classes
    for name in ("float", "quantized", "spiking"):
        assert summary["results"][name]["metrics"]["accuracy"] > 1.4 * chance, name


class Spy:
    """A split that counts how often its rows are asked for."""

    def __init__(self, split: Any):
        self._split, self.reads = split, 0

    def __len__(self) -> int:
        return len(self._split)

    def __getattr__(self, name: str) -> Any:
        if name == "batch":
            self.reads += 1
        return getattr(self._split, name)


def test_test_data_are_not_touched_before_the_evaluation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, images: list[str]
) -> None:
    import snn.evaluation.session as session
    from snn.training import experiment

    spies: list[Spy] = []
    load = session.load_dataset

    def spied(*args: Any, **options: Any) -> Any:
        data = load(*args, **options)
        spies.append(Spy(data.splits["test"]))
        data.splits["test"] = spies[-1]  # type: ignore[assignment]
        return data

    before: list[int] = []
    evaluation = experiment.STAGES["evaluate"]

    def evaluate(run: experiment.Experiment) -> None:
        before.extend(spy.reads for spy in spies)
        evaluation(run)

    monkeypatch.setattr(session, "load_dataset", spied)
    monkeypatch.setitem(experiment.STAGES, "evaluate", evaluate)
    experiment.run(composed("train", *images, "T=2"), tmp_path)
    assert before == [0]
    # One pass over the one batch for each of float, calibrated, quantized and spiking; one sample for the raster.
    assert spies[0].reads == 5
