"""What verification leaves in a run's folder, and that a conversion beyond the limits leaves no network."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from snn.errors import ConfigError, ConversionError
from snn.evaluation.jobs import convert_checkpoint
from snn.neurons.para_inf import ParaInf
from snn.tracking.files import read_json
from tests.scripts.composing import composed

Run = tuple[Path, float]
SMALL = ["debug=tiny", "device=cpu", "threads=1"]


def test_an_inexact_conversion_says_where_it_loses(text_run: Run, tmp_path: Path) -> None:
    config = composed("convert", f"checkpoint={text_run[0]}", "neuron=integrate_fire", *SMALL)
    error = convert_checkpoint(config, tmp_path)
    summary = read_json(tmp_path / "summary.json")
    check = summary["verification"]
    assert error == check["max_error"] > 0
    assert not check["exact"]
    assert check["passed"]
    found = summary["attribution"]
    assert found["samples"] == check["samples"] == 4
    assert found["sources"]["unevenness"] != 0
    assert [variant["accuracy"] is not None for variant in found["variants"]] == [True] * 6
    with (tmp_path / "conversion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [layer["name"] for layer in check["layers"]]
    assert [float(row["mean_levels"]) for row in rows] == [layer["mean_levels"] for layer in check["layers"]]
    for name in ("conversion.md", "report.md"):
        text = (tmp_path / name).read_text()
        assert found["verdict"][1:] in text, name
        assert "spiking, inputs held at their means" in text, name
    assert "figures/error_by_depth.png" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "figures" / "error_by_depth.svg").stat().st_size > 0


def test_an_exact_conversion_attributes_only_when_asked(image_run: Run, tmp_path: Path) -> None:
    parent = f"checkpoint={image_run[0]}"
    convert_checkpoint(composed("convert", parent, *SMALL), tmp_path / "a")
    assert "attribution" not in read_json(tmp_path / "a" / "summary.json")
    convert_checkpoint(composed("convert", parent, "conversion.attribute=true", *SMALL), tmp_path / "b")
    sources = read_json(tmp_path / "b" / "summary.json")["attribution"]["sources"]
    assert sources["unevenness"] == sources["time steps"] == 0
    assert sources["rounding"] != 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["neuron=integrate_fire", "conversion.max_error=1e-9"], r"conversion\.max_error=1e-09"),
        (["conversion.tolerance=0", "conversion.max_error=0", "conversion.verify_dtype=float32"], "FAILED"),
    ],
)
def test_beyond_the_limits_no_network_is_left(
    options: list[str], message: str, text_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if message == "FAILED":  # what rounds differently, and would be let pass otherwise
        monkeypatch.setattr(ParaInf, "heightened", lambda self, output: output * (1 + 1e-6))
    config = composed("convert", f"checkpoint={text_run[0]}", *options, *SMALL)
    with pytest.raises(ConversionError, match=rf"verification: .*{message}.* \(see .*conversion\.md\)"):
        convert_checkpoint(config, tmp_path)
    # What was found is there to be read; what could be taken for a network is not.
    left = {path.name for path in tmp_path.iterdir()}
    assert {"conversion.md", "conversion.json", "conversion.csv", "summary.json", "report.md"} <= left
    assert not [
        path for path in tmp_path.rglob("*") if path.suffix == ".safetensors" or path.name == "checkpoint"
    ]
    summary = read_json(tmp_path / "summary.json")
    assert summary["status"] == "failed"
    assert summary["verification"]["passed"] is False
    assert "verification: FAILED" in (tmp_path / "report.md").read_text().splitlines()[2]


def test_too_few_steps_fail_only_if_asked(
    text: list[str], train: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parent, _ = train(*text, "neuron=st_bif", "quantization=lsq", "quantization.levels=16", "T=64")  # type: ignore[operator]
    short = [f"checkpoint={parent}", "neuron=st_bif", "T=2", *SMALL]
    convert_checkpoint(composed("convert", *short), tmp_path / "a")
    assert (tmp_path / "a" / "checkpoint" / "model.yaml").exists()
    check = read_json(tmp_path / "a" / "summary.json")["verification"]
    assert check["unsettled"] > 0
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("counts would still change after T = 2, so raise T" in text for text in warnings)
    with pytest.raises(ConversionError, match=r"conversion\.require_settled: .* after T = 2, so raise T"):
        convert_checkpoint(composed("convert", *short, "conversion.require_settled=true"), tmp_path / "b")
    assert not (tmp_path / "b" / "checkpoint").exists()


def test_collapsed_time_needs_what_has_settled(
    text: list[str], train: Callable[..., Run], tmp_path: Path
) -> None:
    """Collapsed, ST-BIF gives what it settles at, which the network at a T that is too short does not."""
    lsq = ["neuron=st_bif", "quantization=lsq", "quantization.levels=16"]
    parent, _ = train(*text, *lsq, "T=64")
    collapsed = [f"checkpoint={parent}", "neuron=st_bif", "execution=collapsed", *SMALL]
    convert_checkpoint(composed("convert", *collapsed, "T=64"), tmp_path / "a")
    with pytest.raises(
        ConversionError, match=r"execution=collapsed gives .*T=2 .* counts would still change"
    ):
        convert_checkpoint(composed("convert", *collapsed, "T=2"), tmp_path / "b")
    with pytest.raises(ConversionError, match=r"conversion\.verify=true tells"):
        convert_checkpoint(composed("convert", *collapsed, "T=64", "conversion.verify=false"), tmp_path / "c")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("conversion.min_agreement=1.5", r"conversion\.min_agreement must be in \[0, 1\]; got 1\.5"),
        ("conversion.max_error=-1", r"conversion\.max_error must be at least 0; got -1"),
        ("conversion.tolerance=-1", r"conversion\.tolerance must be at least 0; got -1"),
    ],
)
def test_limits_that_mean_nothing_are_refused(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed("convert", "checkpoint=x", option)
