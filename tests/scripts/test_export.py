"""``convert.py export=nir`` on a run of ``train.py``, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from snn.errors import ConfigError, ConversionError
from snn.evaluation.jobs import convert_checkpoint
from snn.tracking.files import read_json
from tests.scripts.composing import composed

nir = pytest.importorskip("nir", reason="the package nir is missing: pip install nir")

Run = tuple[Path, float]
SMALL = ["debug=tiny", "device=cpu", "threads=1"]


def convert(run: Run, folder: Path, *overrides: str) -> None:
    convert_checkpoint(composed("convert", f"checkpoint={run[0]}", *overrides, *SMALL), folder)


def test_a_converted_network_is_written_as_a_graph(image_run: Run, tmp_path: Path) -> None:
    convert(image_run, tmp_path, "neuron=integrate_fire", "T=4", "export=nir")
    graph = nir.read(str(tmp_path / "network.nir"))
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    # A 1x1 convolution in each shortcut that changes the width, and batch norms within convolutions.
    assert kinds.count("Conv2d") == 9
    assert kinds.count("I") == kinds.count("Threshold") == 7
    assert kinds.count("Affine") == 1
    assert graph.nodes["input"].input_type["input"].tolist() == [1, 8, 8]
    assert graph.nodes["output"].output_type["output"].tolist() == [10]
    assert read_json(tmp_path / "summary.json")["export"]["nodes"] == len(graph.nodes)
    assert (tmp_path / "checkpoint" / "model.yaml").exists()


def test_what_cannot_be_written_is_refused(image_run: Run, text_run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"export.*'onnx'.*nir"):
        convert(image_run, tmp_path / "a", "export=onnx")
    with pytest.raises(ConfigError, match=r"export is a key of convert\.py; got it for train\.py"):
        composed("train", "+export=nir")
    with pytest.raises(ConfigError, match="export=nir cannot express neuron=para_inf; neuron=integrate_fire"):
        convert(image_run, tmp_path / "b", "neuron=para_inf", "export=nir")
    with pytest.raises(ConversionError, match=r"NIR cannot express: .*layer_norm\(\) in .* more"):
        convert(text_run, tmp_path / "c", "neuron=integrate_fire", "export=nir")
    assert read_json(tmp_path / "c" / "summary.json")["status"] == "failed"
    assert not (tmp_path / "c" / "conversion.csv").exists()  # before anything is verified
