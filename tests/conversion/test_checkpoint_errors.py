"""Everything that can be wrong with a checkpoint folder: one line each, and nothing of it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import snn
from snn.errors import CheckpointError

from .networks import quantised


def test_folders_that_hold_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint=.*/nowhere: no such folder"):
        snn.load(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("T: 8")
    with pytest.raises(
        CheckpointError, match=r"no model\.yaml here or in checkpoint/; the folder holds: config\.yaml"
    ):
        snn.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 500, -1])
def test_truncated_weights(keep: int, tmp_path: Path) -> None:
    snn.save(quantised("resnet20")[0], tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        snn.load(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        snn.load(tmp_path)


def test_weights_of_another_model(tmp_path: Path) -> None:
    snn.save(quantised("resnet20")[0], tmp_path / "a")
    snn.save(quantised("vgg16")[0], tmp_path / "b")
    (tmp_path / "a" / "model.safetensors").write_bytes((tmp_path / "b" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not fit model\.yaml"):
        snn.load(tmp_path / "a")


def put(described: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        described = described[key]
    described[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "snn-checkpoint-9", "expected format snn-checkpoint-1; got 'snn-checkpoint-9'"),
        (("format",), None, "expected format snn-checkpoint-1; got None"),
        (
            ("model", "_target_"),
            "os.system",
            "'_target_' is not allowed; checkpoints name registered things only",
        ),
        (("neuron", "_target_"), "os.system", "'_target_' is not allowed"),
        (("quantizers", 0, "options", "_args_"), ["rm"], "'_args_' is not allowed"),
        (("code",), "print()", "unknown key 'code'"),
        (("model",), "resnet20", "model must hold a name and args"),
        (("model", "args"), None, "model must hold a name and args"),
        (("model", "name"), "resnet21", "model: unknown name 'resnet21'; did you mean 'resnet20'?"),
        (("model", "name"), "os:system", "model: unknown name 'os:system'"),
        (("model", "args", "width"), 3, "width"),
        (("model", "args", "weights"), "/etc/passwd", "weights"),
        (
            ("quantizers", 0, "options", "name"),
            "qcsf",
            "quantization: unknown name 'qcsf'; did you mean 'qcfs'?",
        ),
        (("quantizers", 0, "options", "levels"), 0, "quantization.levels must be at least 1; got 0"),
        (("quantizers", 0, "options", "levels"), "many", "options.levels must be a whole number; got 'many'"),
        (("quantizers", 0, "options", "code"), 1, "qcfs takes no argument 'code'"),
        (("quantizers", 0, "options"), None, "quantizers[0] must say a place and options"),
        (("quantizers", 0, "name"), "stem.nowhere", "nowhere"),
        (("quantizers", 0, "how"), 1, "how"),
        (("quantizers",), ["stem.act"], "quantizers[0] must say a place and options; got 'stem.act'"),
        (("quantizers",), 7, "quantizers must be a list; got 7"),
        (("neuron", "neuron"), "parainf", "neuron: unknown name 'parainf'; did you mean 'para_inf'?"),
        (("neuron",), {"neuron": "st_bif", "T": 8}, "neuron=st_bif needs quantization=lsq; got qcfs"),
        (("neuron", "T"), 0, "T must be at least 1; got 0"),
        (("neuron", "T"), "eight", "neuron.T must be a whole number; got 'eight'"),
        (("neuron", "code"), 1, "neuron.code: para_inf takes no such argument"),
        (("neuron",), "para_inf", "neuron must be a name with arguments; got 'para_inf'"),
    ],
)
def test_descriptions_that_are_wrong(path: tuple[Any, ...], value: Any, message: str, tmp_path: Path) -> None:
    snn.convert(quantised("resnet20")[0], "para_inf", 8).save(tmp_path)
    description = tmp_path / "model.yaml"
    described = yaml.safe_load(description.read_text())
    put(described, path, value)
    description.write_text(yaml.safe_dump(described))
    with pytest.raises(CheckpointError) as error:
        snn.load(tmp_path)
    assert "model.yaml" in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", [b"", b"[1, 2]", b"a: [", b"\xff\xfe\x00", b"!!python/object/apply:os.getcwd []"]
)
def test_descriptions_that_are_no_description(text: bytes, tmp_path: Path) -> None:
    snn.save(quantised("resnet20")[0], tmp_path)
    (tmp_path / "model.yaml").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"model\.yaml.*(cannot be read|expected format)"):
        snn.load(tmp_path)
