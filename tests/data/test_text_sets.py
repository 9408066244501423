"""Every named text set: its columns as the Hub and as its authors spell them, its labels, which splits have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from snn.data import load_dataset
from snn.errors import DataError

from .test_config import CONF, composed

PAIR = ["sentence1", "sentence2"]
NO_LABELS = {"train": True, "validation": True, "test": False}
ALL_LABELS = {"train": True, "validation": True, "test": True}
NO_VALIDATION = {"train": True, "test": True}
MNLI = {"train": True} | {
    f"{split}_{kind}": split == "validation"
    for split in ("validation", "test")
    for kind in ("matched", "mismatched")
}
#: Columns of text, column of labels, splits on the Hub and whether they have labels, number of classes.
HUB: dict[str, tuple[list[str], str, dict[str, bool], int]] = {
    "ag_news": (["text"], "label", NO_VALIDATION, 4),
    "imdb": (["text"], "label", {**NO_VALIDATION, "unsupervised": False}, 2),
    "sst2": (["sentence"], "label", NO_LABELS, 2),
    "sst5": (["text"], "label", ALL_LABELS, 5),
    "mr": (["text"], "label", ALL_LABELS, 2),
    "subj": (["text"], "label", NO_VALIDATION, 2),
    "trec": (["text"], "coarse_label", NO_VALIDATION, 6),
    "cola": (["sentence"], "label", NO_LABELS, 2),
    "mrpc": (PAIR, "label", ALL_LABELS, 2),
    "rte": (PAIR, "label", NO_LABELS, 2),
    "qnli": (["question", "sentence"], "label", NO_LABELS, 2),
    "qqp": (["question1", "question2"], "label", NO_LABELS, 2),
    "mnli": (["premise", "hypothesis"], "label", MNLI, 3),
    "stsb": (PAIR, "label", NO_LABELS, 1),
    "wnli": (PAIR, "label", NO_LABELS, 2),
}
METRICS = {
    "cola": ["matthews", "accuracy"],
    "mrpc": ["accuracy", "f1"],
    "qqp": ["accuracy", "f1"],
    "stsb": ["pearson", "spearman"],
}
WORDS = ["a", "b", "c", "good", "bad", "film", "the", "one", "two", "three"]


def sentence(row: int) -> str:
    return " ".join(WORDS[(row + i) % len(WORDS)] for i in range(row % 5 + 2))


def labels(count: int, classes: int) -> list[float]:
    return [round(row * 5 / count, 3) if classes == 1 else row % classes for row in range(count)]


@pytest.fixture
def hub(tmp_path: Path):
    """A repository as it lies on the Hub, in a folder, which is a valid name for one."""

    def write(name: str) -> Path:
        fields, label, splits, classes = HUB[name]
        config = OmegaConf.load(CONF / f"{name}.yaml").get("hub_config") or "default"
        head = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
        for split, labelled in splits.items():
            head += [f"  - split: {split}", f"    path: {split}.jsonl"]
            rows = [
                {field: sentence(row + 3 * i) for i, field in enumerate(fields)} | {label: value}
                for row, value in enumerate(labels(36, classes))
            ]
            rows = rows if labelled else [row | {label: -1} for row in rows]
            (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "README.md").write_text("\n".join([*head, "---", ""]))
        return tmp_path

    return write


@pytest.mark.parametrize("name", HUB)
def test_a_set_as_it_lies_on_the_hub(name: str, hub, tokenizer) -> None:
    fields, _, splits, classes = HUB[name]
    config = composed(CONF / f"{name}.yaml", hub=str(hub(name)), hub_revision=None)
    data = load_dataset(config, seed=0, tokenizer=tokenizer)
    assert list(config.metrics) == METRICS.get(name, ["accuracy"])
    assert data.num_classes == classes
    assert len(data.label_names) == (0 if classes == 1 else classes)
    # Nothing unlabelled is used, and every choice is made on rows that are no test rows.
    assert all(splits[part.rpartition(":")[2].rstrip(",);")] for part in data.source.split() if ":" in part)
    held_out = "validation" not in splits or not splits["test" if name != "mnli" else "test_matched"]
    rows = {"train": 32, "validation": 4} if held_out else {"train": 36, "validation": 36}
    rows |= {"test": 36} | ({"test_mismatched": 36} if name == "mnli" else {})
    assert {split: len(part) for split, part in data.splits.items()} == rows
    batch = next(iter(data.loader("train", 4)))
    assert ("token_type_ids" in batch) == ("token_type_ids" in tokenizer.model_input_names)
    segments = int(batch["token_type_ids"].max()) + 1
    assert segments == len(fields) == len(config.text_fields)
    assert batch["labels"].is_floating_point() == (classes == 1)


def test_a_split_that_the_hub_lacks_can_be_cut_off(hub, tokenizer) -> None:
    config = composed(CONF / "trec.yaml", hub=str(hub("trec")), hub_revision=None)
    config.splits["validation"] = "validation"
    with pytest.raises(
        DataError, match=r"validation.*; dataset\.splits\.validation=null cuts it off the training rows"
    ):
        load_dataset(config, seed=0, tokenizer=tokenizer)
    config.splits["validation"] = None
    assert len(load_dataset(config, seed=0, tokenizer=tokenizer).splits["validation"]) == 4


def test_every_text_set_is_here() -> None:
    sets = {path.stem: OmegaConf.load(path) for path in CONF.glob("*.yaml")}
    labelled = {name for name, made in sets.items() if made.get("hub") and made.get("task") != "corpus"}
    assert {name for name in labelled if sets[name].kind == "text"} == set(HUB)


#: Header and rows of the files that the authors of GLUE hand out, and what they say.
GLUE_FILES = {
    "mrpc": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{y}\t1\t2\t{a}\t{b}", ["0", "1"], "dev"),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "1\t2\t3\t{a}\t{b}\t{y}",
        ["0", "1"],
        "dev",
    ),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\t{a}\t{b}\t{y}", ["entailment", "not_entailment"], "dev"),
    "rte": (
        "index\tsentence1\tsentence2\tlabel",
        "0\t{a}\t{b}\t{y}",
        ["entailment", "not_entailment"],
        "dev",
    ),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "0\t{a}\t{b}\t{y}", ["0", "1"], "dev"),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
        "0\t1\t2\tfiction\t{a}\t{b}\tneutral\t{y}",
        ["entailment", "neutral", "contradiction"],
        "dev_matched",
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "0\tx\tx\t2012\t1\tx\tx\t{a}\t{b}\t{y}",
        ["0.000", "2.600", "5.000"],
        "dev",
    ),
}


@pytest.mark.parametrize("name", GLUE_FILES)
def test_files_of_glue(name: str, tmp_path: Path, tokenizer) -> None:
    header, line, values, dev = GLUE_FILES[name]
    for stem in ("train", dev):
        # A quotation mark that nothing closes: these files know no quoting.
        rows = [line.format(a='"good film', b="the film", y=values[i % len(values)]) for i in range(24)]
        (tmp_path / f"{stem}.tsv").write_text("\n".join([header, *rows]) + "\n")
    splits = {"train": "train", "validation": None, "test": dev, "test_mismatched": None}
    config = composed(CONF / f"{name}.yaml", data_dir=str(tmp_path), splits=splits, validation_fraction=0.25)
    data = load_dataset(config, seed=0, tokenizer=tokenizer)
    assert {split: len(part) for split, part in data.splits.items()} == {
        "train": 18,
        "validation": 6,
        "test": 24,
    }
    part = data.splits["test"]
    assert part.labels.tolist() == pytest.approx(
        [[0.0, 2.6, 5.0][i % 3] if name == "stsb" else i % len(values) for i in range(24)]
    )
    assert tokenizer.decode(part.ids[: part.offsets[1]]) == "[CLS] [UNK] good film [SEP] the film [SEP]"


REFERENCE = {
    "sst5": ("sst5", (8_544, 1_101, 2_210)),
    "mrpc": ("mrpc", (3_668, 408, 1_725)),
    "rte": ("rte", (2_241, 249, 277)),
    "stsb": ("stsb", (5_749, 1_500, 1_379)),
    "imdb": ("imdb_subset", (4_000, 1_000, 2_500)),
}


@pytest.mark.reference
@pytest.mark.parametrize("name", REFERENCE)
def test_real_sets(name: str, reference_data: Path, tokenizer) -> None:
    folder, rows = REFERENCE[name]
    config = composed(CONF / f"{name}.yaml", data_dir=str(reference_data / folder))
    data = load_dataset(config, seed=0, tokenizer=tokenizer)
    assert tuple(len(data.splits[split]) for split in ("train", "validation", "test")) == rows
    assert data.longest == config.max_length or name in ("sst5", "mrpc", "stsb")
    if name == "stsb":
        found = np.concatenate([split.labels for split in data.splits.values()])
        assert (found.dtype, found.min(), found.max()) == (np.float32, 0.0, 5.0)


@pytest.mark.reference
def test_html_is_gone_from_real_reviews(reference_data: Path) -> None:
    from snn.data.load import find, texts

    config = composed(CONF / "imdb.yaml", data_dir=str(reference_data / "imdb_subset"))
    table = find(config).tables["validation"]
    raw, clean = table.columns["text"], texts(table, "text", config)
    assert sum("<br />" in text for text in raw) > 400
    assert not any("<br" in text or "  " in text for text in clean)
    assert sum(map(len, clean)) > 0.97 * sum(len(text.replace("<br /><br />", "")) for text in raw)


def test_unlabelled_rows_are_refused(tmp_path: Path, tokenizer) -> None:
    for name, expected in (
        ("rte", "label -1 in .* is negative"),
        ("stsb", r"label -1 in .* is outside of .*GLUE"),
    ):
        rows = "".join(json.dumps({"sentence1": "a", "sentence2": "b", "label": -1}) + "\n" for _ in range(4))
        for split in ("train", "validation", "test"):
            (tmp_path / f"{split}.jsonl").write_text(rows)
        with pytest.raises(DataError, match=expected) as error:
            load_dataset(composed(CONF / f"{name}.yaml", data_dir=str(tmp_path)), seed=0, tokenizer=tokenizer)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mrpc", "stsb"])
def test_the_labels_of_a_set_can_be_left_alone(name: str, hub, tokenizer) -> None:
    """Then its unlabelled splits are like any other, and what the config says of labels has no say."""
    labelled = composed(CONF / f"{name}.yaml", hub=str(hub(name)), hub_revision=None)
    asked = composed(CONF / f"{name}.yaml", hub=str(hub(name)), hub_revision=None, task="unlabelled")
    asked.label_field = "none"
    data, rows = (load_dataset(config, seed=0, tokenizer=tokenizer) for config in (labelled, asked))
    assert (rows.label_names, rows.num_classes) == ([], 1)
    assert {split: len(part) for split, part in rows.splits.items()} == {
        split: len(part) for split, part in data.splits.items()
    }
    ours, theirs = (next(iter(found.loader("train", 36)))["labels"] for found in (rows, data))
    assert theirs.any()
    assert not ours.any()
