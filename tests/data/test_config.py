"""The schema: values that cannot work, and every YAML of the group."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from snn.data import BUILTIN, DatasetConfig, load_dataset
from snn.errors import DataError
from snn.evaluation.restored_data import merge_dataset

CONF = Path(__file__).parents[2] / "conf" / "dataset"
YAMLS = sorted(CONF.rglob("*.yaml"))


def composed(path, **overrides):
    return OmegaConf.merge(OmegaConf.structured(DatasetConfig), OmegaConf.load(path), overrides)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_yaml_fits_the_schema(path):
    config = composed(path)
    assert config.name == path.stem
    assert path.read_text().startswith("# ")
    from snn.data.schema import check

    check(merge_dataset({"name": "saved"}, OmegaConf.to_object(composed(path, data_dir="somewhere"))))


def test_every_built_in_set_has_a_yaml():
    assert set(BUILTIN.names()) <= {path.stem for path in YAMLS}


@pytest.mark.parametrize("name", ["digits", "synthetic_text", "rotten_tomatoes", "mnist5k"])
def test_built_in_sets_load_from_their_yaml(name, tokenizer, cache_dir):
    data = load_dataset(composed(CONF / f"{name}.yaml"), seed=0, cache_dir=cache_dir, tokenizer=tokenizer)
    assert set(data.splits) == {"train", "validation", "test"}
    batch = next(iter(data.loader("train", 8, shuffle=True)))
    assert batch["labels"].shape == (8,)
    assert 0 <= batch["labels"].min() <= batch["labels"].max() < data.num_classes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"validation_fraction": 0.0}, "dataset.validation_fraction=0.0"),
        ({"validation_fraction": 1.0}, "dataset.validation_fraction=1.0"),
        ({"validation_fraction": float("nan")}, "dataset.validation_fraction=nan"),
        ({"test_fraction": -0.1}, "dataset.test_fraction=-0.1"),
        ({"kind": "sound"}, "dataset.kind: 'sound'"),
        ({"limit_train": 0}, "dataset.limit_train=0"),
        ({"max_length": 0}, "dataset.max_length=0"),
        ({"max_length": 2}, "dataset.max_length=2: too short"),
        ({"text_fields": []}, "one column, or two"),
        ({"text_fields": ["a", "a"]}, "a name comes twice"),
        ({"splits": {"train": "x", "valid": "y"}}, "unknown split 'valid'; did you mean 'validation'?"),
        ({"splits": {"test": "x"}}, "dataset.splits.train is missing"),
        ({"channels": 2}, "dataset.channels=2"),
        ({"augment_crop": -1}, "dataset.augment_crop=-1"),
        ({"name": "synthetic_txt"}, "'synthetic_txt' is not built in.*did you mean 'synthetic_text'?"),
        ({"name": "text_file"}, "neither dataset.data_dir nor dataset.hub says where"),
        ({"name": "digits", "kind": "image", "mean": [0.1, 0.2]}, "dataset.mean=.*2 values for images of 1"),
        ({"name": "digits", "kind": "image", "std": [0.0]}, "dataset.std=.*must be positive"),
    ],
)
def test_values_that_cannot_work(settings, expected, tokenizer):
    config = DatasetConfig(**{"name": "synthetic_text", **settings})
    with pytest.raises(DataError, match=expected) as error:
        load_dataset(config, seed=0, tokenizer=tokenizer)
    assert "\n" not in str(error.value)


def test_text_needs_a_tokenizer():
    with pytest.raises(DataError, match="needs a tokenizer"):
        load_dataset(DatasetConfig(name="synthetic_text"), seed=0)


def test_hub_without_network_is_one_line(tmp_path):
    """In a process of its own, since the Hub's libraries read the environment when they are imported."""
    code = (
        "from snn.data import *\nfrom snn.errors import DataError\n"
        "config = DatasetConfig(name='sst2', hub='nyu-mll/glue', hub_config='sst2')\n"
        "try: load_dataset(config, seed=0, tokenizer=1)\n"
        "except DataError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("dataset.hub=nyu-mll/glue/sst2: the Hub cannot be reached, no network")
    assert "dataset.data_dir=" in line


def test_a_saved_repository_is_read_through_the_same_library(tmp_path, tokenizer):
    """A local folder is a valid name for ``datasets``, so the code of the Hub runs without a network."""
    rows = "".join(f'{{"sentence": "a b {i}", "label": {i % 2}}}\n' for i in range(20))
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text(rows)
    config = DatasetConfig(
        name="mine",
        hub=str(tmp_path),
        hub_splits={"train": "train", "validation": None, "test": "validation"},
        text_fields=["sentence"],
    )
    data = load_dataset(config, seed=0, tokenizer=tokenizer)
    assert [len(data.splits[s]) for s in ("train", "validation", "test")] == [18, 2, 20]
    config.hub_splits = {"train": "trian"}
    with pytest.raises(DataError, match="trian") as error:
        load_dataset(config, seed=0, tokenizer=tokenizer)
    assert "\n" not in str(error.value)
    # The key that is advised is the one that is read.
    config.hub_splits = {"train": "train", "validation": "dev", "test": "validation"}
    with pytest.raises(DataError, match=r"dataset\.hub_splits\.validation=null cuts it off"):
        load_dataset(config, seed=0, tokenizer=tokenizer)
    config.hub_splits["validation"] = None
    assert len(load_dataset(config, seed=0, tokenizer=tokenizer).splits["validation"]) == 2


@pytest.mark.parametrize(
    "names", [["1", "0"], ["1", "2", "3"], ["-1", "1"], ["2019", "2020"], ["neg", "pos"]]
)
def test_class_labels_of_the_hub_are_numbers_whatever_the_classes_are_called(tmp_path, tokenizer, names):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "stars": ClassLabel(names=names)})
    codes = [row % len(names) for row in range(12)]
    for split in ("train", "validation", "test"):
        rows = Dataset.from_dict({"text": ["a b"] * 12, "stars": codes}, features=features)
        rows.to_parquet(tmp_path / f"{split}.parquet")
    for settings in ({"label_field": "stars"}, {"rename": {"absent": "label", "stars": "label"}}):
        config = DatasetConfig(name="mine", hub=str(tmp_path), **settings)
        data = load_dataset(config, seed=0, tokenizer=tokenizer)
        assert data.label_names == names
        assert data.splits["test"].labels.tolist() == codes
    config.label_names = [f"class {name}" for name in names]
    data = load_dataset(config, seed=0, tokenizer=tokenizer)
    assert (data.label_names, data.splits["test"].labels.tolist()) == (config.label_names, codes)
    config.label_names = names[::-1]  # the same classes in another order
    data = load_dataset(config, seed=0, tokenizer=tokenizer)
    assert data.label_names == names[::-1]
    assert data.splits["test"].labels.tolist() == [len(names) - 1 - code for code in codes]


def test_schema_loads_nothing_heavy():
    code = (
        "import sys; from snn.data import DatasetConfig, default_cache_dir, minilm_folder; "
        "print([m for m in ('torch', 'numpy', 'pandas', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
