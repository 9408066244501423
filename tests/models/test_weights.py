"""Weights are loaded whole, or not at all."""

from __future__ import annotations

import io
import json
import logging
import tarfile
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from snn.errors import CheckpointError, ConfigError
from snn.models import RenameRule, create_model

from .small import SMALL, batch, logits

CONFIG = {**SMALL["bert"], "model_type": "bert", "hidden_act": "relu"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small BERT as a text model's folder, without head, keys without ``bert.``."""
    model = create_model("bert", **SMALL["bert"])
    tensors = {k.removeprefix("bert."): v for k, v in model.state_dict().items() if k.startswith("bert.")}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def change(folder: Path, edit) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_sizes_come_from_the_folder_and_tensors_are_the_files(folder: Path, caplog) -> None:
    with caplog.at_level(logging.INFO, "snn"):
        model = create_model("bert", weights=folder, num_classes=4)
    assert {k: model.spec["args"][k] for k in SMALL["bert"]} == SMALL["bert"]
    assert model.spec["args"]["hidden_act"] == "relu"
    state = model.state_dict()
    for key, value in load_file(folder / "model.safetensors").items():
        assert torch.equal(state[f"bert.{key}"], value)
    assert caplog.messages == [f"Newly initialised, not as in {folder}: classifier.bias, classifier.weight"]
    again = create_model(model.spec["name"], **model.spec["args"])
    assert again.state_dict().keys() == state.keys()


def test_an_argument_of_the_user_wins_over_the_folder(folder: Path) -> None:
    model = create_model("bert", weights=folder, hidden_dropout_prob=0.3, hidden_act="gelu")
    assert model.bert.encoder.layer[1].output.dropout.p == 0.3
    assert model.spec["args"]["hidden_act"] == "gelu"


def test_a_whole_classifier_is_loaded_with_its_head(folder: Path, caplog) -> None:
    model = create_model("bert", weights=folder, num_classes=3)
    save_file(model.state_dict(), folder / "model.safetensors")
    with caplog.at_level(logging.INFO, "snn"):
        again = create_model("bert", weights=folder, num_classes=3)
        assert caplog.messages == []
        inputs = batch(model)
        assert torch.equal(logits(model.eval(), inputs), logits(again.eval(), inputs))
        create_model("bert", weights=folder, num_classes=5)
    assert "classifier.bias ((3,) there, (5,) here), classifier.weight" in caplog.messages[0]


def test_shards_of_a_large_model(folder: Path) -> None:
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys = sorted(whole)
    parts = {"a.safetensors": keys[:7], "b.safetensors": keys[7:]}
    for name, part in parts.items():
        save_file({key: whole[key] for key in part}, folder / name)
    index = {"weight_map": {key: name for name, part in parts.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    state = create_model("bert", weights=folder).state_dict()
    assert all(torch.equal(state[f"bert.{key}"], value) for key, value in whole.items())
    index["weight_map"][keys[0]] = "../a.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model\.weights: .*'\.\./a\.safetensors', which is not there"):
        create_model("bert", weights=folder)


def test_old_spellings_and_heads_of_the_pretraining(folder: Path, caplog) -> None:
    def spell(tensors: dict) -> None:
        norm = "embeddings.LayerNorm"
        tensors[f"{norm}.gamma"] = tensors.pop(f"{norm}.weight")
        tensors[f"{norm}.beta"] = tensors.pop(f"{norm}.bias") + 7
        for key in list(tensors):
            tensors[f"bert.{key}"] = tensors.pop(key)
        tensors["cls.predictions.bias"] = torch.zeros(40)
        tensors["bert.embeddings.position_ids"] = torch.arange(12)[None]

    change(folder, spell)
    model = create_model("bert", weights=folder)
    assert (model.bert.embeddings.LayerNorm.bias == 7).all()


def test_a_pooler_may_be_absent_but_only_as_a_whole(folder: Path, caplog) -> None:
    change(folder, lambda tensors: tensors.pop("pooler.dense.bias"))
    with pytest.raises(CheckpointError, match=r"missing: bert\.pooler\.dense\.bias;"):
        create_model("bert", weights=folder)
    change(folder, lambda tensors: tensors.pop("pooler.dense.weight"))
    with caplog.at_level(logging.WARNING, "snn"):
        create_model("bert", weights=folder)
    assert "bert.pooler.dense.bias, bert.pooler.dense.weight" in caplog.messages[0]


def test_what_does_not_fit_is_listed_at_most_five_of_each(folder: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        create_model("bert", weights=folder, num_hidden_layers=1, intermediate_size=20)
    message = str(error.value)
    assert message.startswith(f"model.weights: the tensors of {folder} do not fit this model: unexpected: ")
    assert "and 11 more" in message
    assert "bert.encoder.layer.0.intermediate.dense.bias (24,) instead of (20,)" in message
    with pytest.raises(CheckpointError, match=r"missing: bert\.encoder\.layer\.2\..* and 11 more; check"):
        create_model("bert", weights=folder, num_hidden_layers=3)


def test_a_folder_that_is_missing_or_holds_something_else(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.weights: no file or folder .*holds config\.json, model\."):
        create_model("bert", weights=folder / "nothing")
    with pytest.raises(ConfigError, match=r"model\.weights: .* is a file; a text model needs its folder"):
        create_model("bert", weights=folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ConfigError, match=r"no model\.safetensors .*pickled.*holds config\.json, pytorch_model"
    ):
        create_model("bert", weights=folder)
    (folder / "config.json").rename(folder / "other.json")
    with pytest.raises(
        ConfigError, match=r"model\.weights: no config\.json .*holds other\.json, pytorch_model"
    ):
        create_model("bert", weights=folder)


def test_damaged_files(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.weights: cannot read .*damaged or truncated"):
        create_model("bert", weights=folder)
    (folder / "config.json").write_text('{"hidden_size": ')
    with pytest.raises(CheckpointError, match=r"model\.weights: .*config\.json is damaged"):
        create_model("bert", weights=folder)


def test_a_folder_of_another_kind_of_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": "roberta"}))
    with pytest.raises(ConfigError, match=r"type 'roberta'; model=bert needs 'bert'"):
        create_model("bert", weights=folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "is_decoder": True}))
    with pytest.raises(ConfigError, match="decoder"):
        create_model("bert", weights=folder)


def test_a_hub_name_without_network(monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError) as error:
        create_model("bert", weights="nobody/no-such-model")
    message = str(error.value)
    assert message.startswith(
        "model.weights: 'nobody/no-such-model' is no local folder and cannot be fetched"
    )
    assert "minilm" in message
    assert "\n" not in message
    with pytest.raises(ConfigError, match="did you mean 'minilm'"):
        create_model("bert", weights="minilmm")


def test_a_hub_name_that_is_in_the_cache(folder: Path, tmp_path: Path, monkeypatch) -> None:
    repository = tmp_path / "hub" / "models--someone--small-bert"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(snapshot / name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    state = create_model("bert", weights="someone/small-bert").state_dict()
    for key, value in load_file(snapshot / "model.safetensors").items():
        assert torch.equal(state[f"bert.{key}"], value)


@pytest.mark.parametrize("weights", ["minilm", "somebody/resnet"])
def test_image_models_take_files_only(weights: str) -> None:
    with pytest.raises(
        ConfigError, match=r"model\.weights: no file .*\.safetensors, \.pth or \.pt file, or null"
    ):
        create_model("resnet20", weights=weights)


class Runs:
    """What would run when it is read by pickle as a whole."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("should_not_be_there"),)


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_tensors_that_torch_saved(key: str | None, tmp_path: Path) -> None:
    model = create_model("resnet20", **SMALL["resnet20"])
    state = model.state_dict()
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "model.pth")
    again = create_model("resnet20", weights=tmp_path / "model.pth", **SMALL["resnet20"])
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in state.items())


def test_nothing_in_a_file_of_weights_is_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Runs()}, tmp_path / "model.pt")
    with pytest.raises(
        CheckpointError, match=r"model\.weights: .*model\.pt holds more than tensors, or is damaged"
    ):
        create_model("resnet20", weights=tmp_path / "model.pt", **SMALL["resnet20"])
    assert not (tmp_path / "should_not_be_there").exists()
    torch.save({"step": 3}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="holds no dict of tensors"):
        create_model("resnet20", weights=tmp_path / "model.pt", **SMALL["resnet20"])
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"expected a \.safetensors, \.pth or \.pt file"):
        create_model("resnet20", weights=tmp_path / "model.bin", **SMALL["resnet20"])


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (lambda k: f"module.{k}", '{match: "re:module\\\\.(.*)", to: "\\\\1"}'),
        (lambda k: k.replace("stem.", "first."), '{match: "re:first\\\\.(.*)", to: "stem.\\\\1"}'),
        (lambda k: k.replace("classifier.", "fc."), '{match: "re:fc\\\\.(.*)", to: "classifier.\\\\1"}'),
    ],
    ids=["prefix", "module", "head"],
)
def test_other_names_are_listed_with_rules_that_may_fit(wrong: Any, rule: str, tmp_path: Path) -> None:
    state = create_model("resnet20", **SMALL["resnet20"]).state_dict()
    save_file({wrong(k): v for k, v in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError) as error:
        create_model("resnet20", weights=tmp_path / "w.safetensors", **SMALL["resnet20"])
    assert rule in str(error.value)
    assert "\n" not in str(error.value)


def test_the_suggested_rules_do_fit(tmp_path: Path) -> None:
    import re

    state = create_model("resnet20", **SMALL["resnet20"]).state_dict()
    save_file({f"module.{k}": v for k, v in state.items()}, tmp_path / "w.safetensors")
    load = {"weights": tmp_path / "w.safetensors", **SMALL["resnet20"]}
    with pytest.raises(CheckpointError) as error:
        create_model("resnet20", **load)
    match, to = re.findall(r'match: "(.*?)", to: "(.*?)"', str(error.value))[0]
    rules = [{"match": match.replace("\\\\", "\\"), "to": to.replace("\\\\", "\\")}]
    again = create_model("resnet20", rename=rules, **load)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in state.items())


def test_rename_rules(tmp_path: Path) -> None:
    model = create_model("resnet20", **SMALL["resnet20"])
    tensors = {k.replace("classifier.", "head.fc."): v for k, v in model.state_dict().items()}
    save_file({**tensors, "epoch": torch.tensor(3)}, tmp_path / "w.safetensors")
    rules = [{"match": r"re:head\.fc\.(.*)", "to": r"classifier.\1"}, RenameRule("epoch", None)]
    load = {"weights": tmp_path / "w.safetensors", **SMALL["resnet20"]}
    again = create_model("resnet20", rename=rules, **load)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    with pytest.raises(CheckpointError, match=r"unexpected: epoch, head\.fc\.bias, head\.fc\.weight"):
        create_model("resnet20", **load)
    for rule, words in [
        ({"match": "re:nothing.*", "to": "x"}, r"model\.rename\[2\]: 're:nothing\.\*' matches no key"),
        ({"match": "re:(", "to": "x"}, r"model\.rename\[2\].*not a valid regex"),
        ({"match": "re:stem.*", "to": r"\3"}, r"model\.rename\[2\].*not a valid regex"),
        ({"from": "a", "to": "b"}, r"model\.rename\[2\]: expected \{match"),
        ({"match": r"re:stem\.norm\..*", "to": "same"}, r"two tensors would be called 'same'"),
    ]:
        with pytest.raises(ConfigError, match=words):
            create_model("resnet20", rename=[*rules, rule], **load)


def test_minilm_is_really_loaded(minilm: Path) -> None:
    model = create_model("bert", weights="minilm", num_classes=2).eval()
    assert model.spec["args"]["num_hidden_layers"] == 6
    state = model.state_dict()
    file = load_file(minilm / "model.safetensors")
    file.pop("embeddings.position_ids")
    assert state.keys() - {f"bert.{key}" for key in file} == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(state[f"bert.{key}"], value) for key, value in file.items())

    from snn.models import check_tokenizer, load_tokenizer

    tokenizer = load_tokenizer("minilm")
    check_tokenizer(tokenizer, model)
    texts = [
        "The film was wonderful and moving.",
        "A beautiful, touching movie.",
        "The central bank raised interest rates again.",
    ]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.bert(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    cosine = means @ means.T
    assert cosine[0, 1] > 0.6
    assert cosine[0, 2] < 0.3
    assert cosine[1, 2] < 0.3


CIFAR_KEYS = [
    {"match": r"re:conv1\.(.*)", "to": r"stem.conv.\1"},
    {"match": r"re:bn1\.(.*)", "to": r"stem.norm.\1"},
    {"match": r"re:layer1\.(\d)\.conv(\d)\.(.*)", "to": r"stages.0.\1.conv\2.\3"},
    {"match": r"re:layer2\.(\d)\.conv(\d)\.(.*)", "to": r"stages.1.\1.conv\2.\3"},
    {"match": r"re:layer3\.(\d)\.conv(\d)\.(.*)", "to": r"stages.2.\1.conv\2.\3"},
    {"match": r"re:layer1\.(\d)\.bn(\d)\.(.*)", "to": r"stages.0.\1.norm\2.\3"},
    {"match": r"re:layer2\.(\d)\.bn(\d)\.(.*)", "to": r"stages.1.\1.norm\2.\3"},
    {"match": r"re:layer3\.(\d)\.bn(\d)\.(.*)", "to": r"stages.2.\1.norm\2.\3"},
    {"match": r"re:linear\.(.*)", "to": r"classifier.\1"},
]


@pytest.mark.reference
def test_published_resnet20_has_its_accuracy(shared: Path, caplog) -> None:
    import numpy as np
    from PIL import Image

    with caplog.at_level(logging.INFO, "snn"):
        model = create_model(
            "resnet20",
            weights=shared / "data/weights/resnet20_cifar10.safetensors",
            num_classes=10,
            shortcut="pad",
            rename=CIFAR_KEYS,
        ).eval()
    assert caplog.messages == []
    pictures, names = [], []
    with tarfile.open(shared / "data/cifar10/test_jpeg.tar.xz") as archive:
        # test/<class>/<number>.jpg: every twentieth picture, 50 of each class
        for member in archive:
            if member.isfile() and int(Path(member.name).stem) % 20 == 0:
                pictures.append(np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read()))))
                names.append(Path(member.name).parent.name)
    classes = sorted(set(names))
    labels = [classes.index(name) for name in names]
    assert len(classes) == 10
    assert len(labels) == 500
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    predicted = logits(model, {"pixel_values": (x - mean[:, None, None]) / std[:, None, None]}).argmax(1)
    accuracy = (predicted == torch.tensor(labels)).float().mean().item()
    # 81.03 % over all 10,000; three standard errors of 500 samples are 5.3 points.
    assert 0.757 < accuracy < 0.864


def test_pictures_of_other_channels_than_the_weights_are_for(tmp_path: Path) -> None:
    colour = create_model("resnet20", num_classes=10, widths=(4, 4, 4))
    save_file(colour.state_dict(), tmp_path / "colour.safetensors")
    with pytest.raises(CheckpointError, match=r"of another shape.*check model\.args, dataset\.channels and"):
        create_model(
            "resnet20",
            weights=tmp_path / "colour.safetensors",
            widths=(4, 4, 4),
            num_classes=10,
            in_channels=1,
        )
