"""Local files of every format, and what a user is told when one is wrong."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import re

import numpy as np
import pytest

from snn.data import DatasetConfig, load_dataset
from snn.data.load import find, texts
from snn.errors import DataError

ROWS = [('say "hi"', 1), ("", 0), ("one", 1), ("🎉 good", 0), ("a, b", 1), ("bad film", 0)]


def tsv(rows):
    return "text\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in rows)


def csv(rows):
    return "text,label\n" + "".join('"{}",{}\n'.format(t.replace('"', '""'), y) for t, y in rows)


def jsonl(rows):
    return "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows)


def write(folder, name, rows=ROWS):
    path = folder / name
    if ".parquet" in name:
        import pandas

        pandas.DataFrame(rows, columns=["text", "label"]).to_parquet(path)
    elif ".json" in name and ".jsonl" not in name:
        path.write_text(json.dumps([{"text": t, "label": y} for t, y in rows]))
    else:
        body = {"tsv": tsv, "csv": csv, "jsonl": jsonl}[name.split(".")[1]](rows).encode()
        pack = gzip.compress if name.endswith("gz") else bz2.compress if name.endswith("bz2") else bytes
        path.write_bytes(pack(body))
    return path


def files(folder, **settings):
    return DatasetConfig(name="mine", data_dir=str(folder), **settings)


def load(folder, tokenizer=None, **settings):
    return load_dataset(files(folder, **settings), seed=0, tokenizer=tokenizer)


def message(call):
    with pytest.raises(DataError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "ending", ["tsv", "tsv.gz", "csv", "csv.bz2", "jsonl", "jsonl.gz", "json", "parquet"]
)
def test_every_text_format_gives_the_same_rows(tmp_path, tokenizer, ending):
    for split in ("train", "validation", "test"):
        write(tmp_path, f"{split}.{ending}")
    config = files(tmp_path)
    assert texts(find(config).tables["train"], "text", config) == [text for text, _ in ROWS]
    data = load(tmp_path, tokenizer)
    assert [len(data.splits[s]) for s in ("train", "validation", "test")] == [6, 6, 6]
    assert data.splits["train"].labels.tolist() == [label for _, label in ROWS]
    assert data.label_names == ["0", "1"]
    assert all(f"{s}.{ending}" in data.source for s in data.splits)


def test_tsv_has_no_quoting_and_takes_windows_line_ends(tmp_path):
    (tmp_path / "train.tsv").write_bytes(b'\xef\xbb\xbftext\tlabel\r\n"a\t0\r\nb " c\t1\r\n')
    table = find(files(tmp_path / "train.tsv")).tables["train"]
    assert table.columns == {"text": ['"a', 'b " c'], "label": ["0", "1"]}


def test_csv_fields_may_hold_line_ends(tmp_path):
    (tmp_path / "train.csv").write_text('text,label\n"a\nb",0\n')
    assert find(files(tmp_path / "train.csv")).tables["train"].columns["text"] == ["a\nb"]


def test_json_of_columns(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps({"text": ["a", "b"], "label": [0, 1]}))
    assert len(find(files(tmp_path / "train.json")).tables["train"]) == 2
    (tmp_path / "train.json").write_text(json.dumps({"text": ["a", "b"], "label": 0}))
    assert "map each column to a list" in message(lambda: find(files(tmp_path / "train.json")))


def test_parts_are_joined_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 0):
        write(tmp_path, f"train_{number}.tsv", [(f"part {number}", 0)])
    write(tmp_path, "train_sentences.tsv")
    config = files(tmp_path, splits={"train": "train"})
    assert find(config).tables["train"].columns["text"] == ["part 0", "part 2", "part 10"]


def test_npz_parts(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 6, 6), dtype=np.uint8)
    labels = np.arange(30) % 3
    np.savez(tmp_path / "train_0.npz", images=images[:20], labels=labels[:20])
    np.savez(tmp_path / "train_1.npz", images=images[20:], labels=labels[20:])
    np.savez(tmp_path / "test.npz", images=images, labels=labels)
    data = load(tmp_path, kind="image", label_field="labels", splits={"train": "train", "test": "test"})
    assert [len(data.splits[s]) for s in ("train", "validation", "test")] == [27, 3, 30]
    assert sorted(data.splits["validation"].labels.tolist()) == [0, 1, 2]
    assert data.input_shape == (1, 6, 6)
    batch = next(iter(data.loader("test", 30)))
    assert np.array_equal(batch["pixel_values"][:, 0].numpy(), images.astype(np.float32) / 255)


def test_single_file_is_cut_into_three(tmp_path, tokenizer):
    path = write(tmp_path, "all.tsv", [(f"a {'b ' * (i % 5)}", i % 2) for i in range(100)])
    data = load(path, tokenizer)
    assert [len(data.splits[s]) for s in ("train", "validation", "test")] == [81, 9, 10]
    assert np.bincount(data.splits["test"].labels).tolist() == [5, 5]
    assert "test is 0.1 of the training rows" in data.source


def test_the_cut_does_not_depend_on_the_seed(tmp_path, tokenizer):
    path = write(tmp_path, "all.tsv", [(f"a {'b ' * (i % 5)}", i % 3) for i in range(100)])
    one, two = (load_dataset(files(path), seed=s, tokenizer=tokenizer) for s in (1, 2))
    assert one.fingerprint == two.fingerprint
    limited = [
        load_dataset(files(path, limit_train=30, limit_test=5), seed=s, tokenizer=tokenizer) for s in (1, 2)
    ]
    assert [np.bincount(d.splits["train"].labels).tolist() for d in limited] == [[10, 10, 10]] * 2
    ids = [[split.ids.tolist() for split in (d.splits["train"], d.splits["test"])] for d in limited]
    assert ids[0][0] != ids[1][0]
    assert ids[0][1] == ids[1][1]


def test_words_as_labels(tmp_path, tokenizer):
    write(tmp_path, "train.csv", [("a", "spam"), ("b", "ham"), ("c", "ham"), ("a", "ham")])
    data = load(tmp_path / "train.csv", tokenizer)
    assert data.label_names == ["ham", "spam"]
    named = load(tmp_path / "train.csv", tokenizer, label_names=["spam", "ham"])
    everything = np.concatenate([named.splits[s].labels for s in named.splits])
    assert sorted(everything.tolist()) == [0, 1, 1, 1]


def test_names_that_are_numbers_are_names(tmp_path, tokenizer):
    write(tmp_path, "train.tsv", [("a", 1), ("b", 2), ("c", 1), ("a", 2)])
    settings = {"splits": {"train": "train"}, "label_names": ["1", "2"]}
    splits = load(tmp_path, tokenizer, **settings).splits
    assert sorted(label for split in splits.values() for label in split.labels.tolist()) == [0, 0, 1, 1]
    write(tmp_path, "train.tsv", [("a", 2), ("b", 2), ("c", 1), ("a", 2)])
    splits = load(tmp_path, tokenizer, **settings).splits
    assert sorted(label for split in splits.values() for label in split.labels.tolist()) == [0, 1, 1, 1]
    write(tmp_path, "train.tsv", [("a", 1), ("b", 2), ("c", 1), ("a", 0)])
    assert "label '0' in train.tsv, row 4" in message(lambda: load(tmp_path, tokenizer, **settings))


def test_a_number_is_looked_for_among_the_names_before_it_numbers_a_class(tmp_path, tokenizer):
    names = ["1", "2", "unknown"]
    for split in ("train", "validation", "test"):
        write(tmp_path, f"{split}.tsv", [("a", "1.0"), ("b", "2.0"), ("c", "unknown"), ("a", "1")])
    assert load(tmp_path, tokenizer, label_names=names).splits["test"].labels.tolist() == [0, 1, 2, 0]
    # Class 0 is called «1», so a 0 would be one more name for it.
    write(tmp_path, "train.tsv", [("a", "1"), ("b", "0")])
    assert "label '0' in train.tsv, row 2" in message(lambda: load(tmp_path, tokenizer, label_names=names))
    # Here every name that is a number stands at its own place.
    for split in ("train", "validation", "test"):
        write(tmp_path, f"{split}.tsv", [("a", 0), ("b", 1), ("c", 2), ("a", "unknown")])
    labels = load(tmp_path, tokenizer, label_names=["0", "1", "unknown"]).splits["test"].labels
    assert labels.tolist() == [0, 1, 2, 2]


def test_an_underscore_makes_no_number(tmp_path, tokenizer):
    write(tmp_path, "train.tsv", [("a", "1_1"), ("b", "1_2"), ("c", "2_1")] * 4)
    assert load(tmp_path / "train.tsv", tokenizer).label_names == ["1_1", "1_2", "2_1"]
    measured = {"task": "regression", "metrics": ["pearson"]}
    assert "'1_1' in train.tsv, row 1, is no finite number" in message(
        lambda: load(tmp_path / "train.tsv", tokenizer, **measured)
    )


def test_a_number_that_no_row_has_is_said(tmp_path, tokenizer, caplog):
    write(tmp_path, "train.tsv", [("a", 1), ("b", 2)] * 5)
    with caplog.at_level(logging.WARNING, "snn"):
        assert load(tmp_path / "train.tsv", tokenizer).num_classes == 3
    assert caplog.messages == ["train.tsv has no text of 0"]


def test_one_class_only_is_said_but_no_error(tmp_path, tokenizer, caplog):
    write(tmp_path, "train.tsv", [("a", 0)] * 5)
    with caplog.at_level(logging.WARNING, "snn"):
        data = load(tmp_path / "train.tsv", tokenizer)
    assert caplog.messages == [
        "dataset.label_field=label: 0 is the only class, so there is nothing to tell apart"
    ]
    assert data.num_classes == 1
    assert all(len(split) for split in data.splits.values())


def test_empty_texts_are_counted_in_one_warning(tmp_path, tokenizer, caplog):
    (tmp_path / "train.csv").write_text("one,two,label\n" + "a,,0\n,b,1\na,b,0\n  ,b,1\n")
    (tmp_path / "dev.csv").write_text("one,two,label\n" + "a,b,0\n,b,1\n")
    splits = {"train": "train", "validation": "dev", "test": "train"}
    with caplog.at_level(logging.WARNING, "snn"):
        load(tmp_path, tokenizer, text_fields=["one", "two"], splits=splits)
        load(tmp_path, tokenizer, text_fields=["one"], splits=splits | {"train": "dev", "test": "dev"})
    assert caplog.messages == [
        "dataset.text_fields: empty texts: 2 of 4 in column 'one' of train (train.csv), "
        "1 of 4 in column 'two' of train (train.csv), 1 of 2 in column 'one' of validation (dev.csv), "
        "2 of 4 in column 'one' of test (train.csv), 1 of 4 in column 'two' of test (train.csv)",
        "dataset.text_fields: empty texts: 1 of 2 in column 'one' of train (dev.csv), "
        "1 of 2 in column 'one' of validation (dev.csv), 1 of 2 in column 'one' of test (dev.csv)",
    ]
    caplog.clear()
    load(write(tmp_path, "whole.csv", [("a", 0), ("b", 1)] * 4), tokenizer)
    assert not caplog.messages


def test_a_csv_cell_may_be_long(tmp_path, tokenizer):
    import csv as library

    before = library.field_size_limit(131_072)
    try:
        path = write(tmp_path, "train.csv", [("a" * 200_000, 0), ("b", 1)] * 2)
        assert len(find(files(path)).tables["train"].columns["text"][0]) == 200_000
    finally:
        library.field_size_limit(before)


def test_pair(tmp_path, tokenizer):
    (tmp_path / "train.tsv").write_text("one\ttwo\tlabel\n" + "a b\tc\t0\n" * 4)
    data = load(tmp_path / "train.tsv", tokenizer, text_fields=["one", "two"])
    batch = next(iter(data.loader("train", 1)))
    assert tokenizer.decode(batch["input_ids"][0]) == "[CLS] a b [SEP] c [SEP]"
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]
    complaint = message(lambda: load(tmp_path / "train.tsv", tokenizer, text_fields=["one", "too"]))
    assert "dataset.text_fields: no column 'too' in train.tsv; did you mean 'two'?" in complaint


def test_rename(tmp_path, tokenizer):
    write(tmp_path, "train.tsv")
    data = load(tmp_path / "train.tsv", tokenizer, text_fields=["sentence"], rename={"text": "sentence"})
    assert len(data.splits["train"]) == 4


BAD_FILES = {
    "train.tsv": ("", "is empty: no rows"),
    "head.tsv": ("text\tlabel\n", "is empty: no rows"),
    "void.jsonl": ("", "is empty: no rows"),
    "field.tsv": ("text\tlabel\na\t0\nb\n", "row 2: 1 fields, but the header has 2 (text, label)"),
    "twice.csv": ("text,text\na,0\n", "names a column twice"),
    "quote.csv": ('text,label\n"a,0\n', "cannot be read"),
    "broken.json": ("{", "cannot be read"),
    "scalar.json": ("7", "scalar.json: expected a list of objects, or an object of columns; got 7"),
    "null.json": ("null", "expected a list of objects, or an object of columns; got None"),
    "list.jsonl": ("[1]\n", "row 1: expected a JSON object, got list"),
    "null.jsonl": (
        '{"text": null, "label": 0}\n' * 4,
        "has nothing in column 'text'",
    ),
    "number.jsonl": ('{"text": 7, "label": 0}\n' * 4, "has 7, not a text"),
    "column.tsv": ("text\tlabels\na\t0\n", "no column 'label' in column.tsv; did you mean 'labels'?"),
    "minus.tsv": ("text\tlabel\na\t0\nb\t-1\n", "label '-1' in minus.tsv, row 2, is negative"),
    "half.tsv": ("text\tlabel\na\t0\nb\t2.5\n", "label '2.5' is not a whole number"),
    "nolabel.jsonl": (
        '{"text": "a", "label": "x"}\n{"text": "a"}\n',
        "label None in nolabel.jsonl, row 2, is missing",
    ),
    "huge.tsv": ("text\tlabel\na\t0\nb\t123456789\n", "label 123456789 in 2 rows"),
    "single.tsv": ("text\tlabel\na\t0\n", "1 row(s) are too few"),
    "train.parquet": ("no parquet", "cannot be read"),
    "train.npz": ("no zip", "cannot be read"),
    "train.tsv.gz": ("no gzip", "cannot be read"),
    "train.xlsx": ("x", "unknown kind of file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_one_line(tmp_path, tokenizer, name):
    body, expected = BAD_FILES[name]
    (tmp_path / name).write_text(body)
    assert expected in message(lambda: load(tmp_path / name, tokenizer))


def test_not_utf8(tmp_path, tokenizer):
    (tmp_path / "train.tsv").write_bytes(b"text\tlabel\n\xff\xfe\t0\n")
    assert "utf-8" in message(lambda: load(tmp_path / "train.tsv", tokenizer))


def test_missing_file_lists_the_folder(tmp_path, tokenizer):
    write(tmp_path, "train.tsv")
    write(tmp_path, "dev.tsv")
    complaint = message(lambda: load(tmp_path, tokenizer))
    assert re.search(r"no file validation\.\* in .* holds: dev\.tsv, train\.tsv", complaint)
    assert "dataset.splits.validation=null" in complaint
    data = load(tmp_path, tokenizer, splits={"train": "train", "validation": "dev", "test": None})
    assert len(data.splits["validation"]) == 6
    assert "does not exist" in message(lambda: load(tmp_path / "nowhere", tokenizer))


def test_the_advice_about_a_missing_file_can_be_followed(tmp_path, tokenizer):
    """On the command line too, where a key must be in the config to be set."""
    from snn.launch import check_overrides, register
    from tests.scripts.composing import composed

    register()

    def load_with(*overrides):
        arguments = ["dataset=text_file", f"dataset.data_dir={tmp_path}", *overrides]
        check_overrides("train", arguments)
        data = load_dataset(composed("train", *arguments).dataset, seed=0, tokenizer=tokenizer)
        return [len(data.splits[split]) for split in ("train", "validation", "test")]

    write(tmp_path, "train.tsv", [(f"a {i}", i % 2) for i in range(20)])
    write(tmp_path, "dev.tsv")
    write(tmp_path, "test.tsv")
    (advice,) = re.findall(r"dataset\.\S+=null", message(load_with))
    assert load_with(advice) == [18, 2, 6]
    assert load_with("dataset.splits={train:train,validation:dev,test:null}") == [18, 6, 2]


def test_ambiguous_file(tmp_path, tokenizer):
    write(tmp_path, "train.tsv")
    write(tmp_path, "train.csv")
    complaint = message(lambda: load(tmp_path, tokenizer, splits={"train": "train"}))
    assert "train.csv or train.tsv" in complaint
    load(tmp_path, tokenizer, splits={"train": "train.csv"})


def test_a_folder_without_pictures_says_what_was_expected(tmp_path):
    (tmp_path / "train").mkdir()
    assert "train/CLASS/NAME.jpg" in message(lambda: load(tmp_path, kind="image"))


def test_label_outside_the_range_names_the_row(tmp_path, tokenizer):
    write(tmp_path, "train.tsv", [("a", 0), ("b", 2)])
    names = ["no", "yes"]
    complaint = message(lambda: load(tmp_path / "train.tsv", tokenizer, label_names=names))
    assert "label '2' in train.tsv, row 2, is outside the range of the 2 classes: no, yes" in complaint
    write(tmp_path, "train.tsv", [("a", "no"), ("b", "yess")])
    complaint = message(lambda: load(tmp_path / "train.tsv", tokenizer, label_names=names))
    assert "label 'yess' in train.tsv, row 2," in complaint
    assert "did you mean 'yes'?" in complaint


def test_spaces_around_a_label_make_no_class_of_their_own(tmp_path, tokenizer):
    write(tmp_path, "train.tsv", [("a", "pos"), ("b", " pos"), ("c", "neg "), ("d", "neg")] * 5)
    data = load(tmp_path / "train.tsv", tokenizer)
    assert data.label_names == ["neg", "pos"]
    labels = np.concatenate([split.labels for split in data.splits.values()])
    assert np.bincount(labels).tolist() == [10, 10]
    assert load(tmp_path / "train.tsv", tokenizer, label_names=["pos", "neg "]).num_classes == 2
    write(tmp_path, "train.tsv", [("a", "pos"), ("b", " ")] * 5)
    assert "row 2, is missing" in message(lambda: load(tmp_path / "train.tsv", tokenizer))


def test_label_seen_first_in_a_later_split(tmp_path, tokenizer):
    write(tmp_path, "train.tsv", [("a", 0), ("b", 1)])
    write(tmp_path, "validation.tsv", [("a", 2)])
    write(tmp_path, "test.tsv", [("a", 1)])
    assert "validation.tsv, row 1" in message(lambda: load(tmp_path, tokenizer))


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"images": np.full((4, 2, 2, 1), np.nan, np.float32)}, "has a pixel that is not a number"),
        ({"images": np.full((4, 2, 2, 1), 7.0, np.float32)}, "expected uint8 in 0..255, or floats in 0..1"),
        ({"images": np.zeros((4, 2, 2, 5), np.uint8)}, "got uint8 [4, 2, 2, 5]"),
        ({"images": np.zeros((3, 2, 2), np.uint8)}, "differ in their number of rows"),
        ({"pictures": np.zeros((4, 2, 2), np.uint8)}, "no column 'images'"),
        ({"images": np.array([{}] * 4, dtype=object)}, "cannot be read"),
    ],
)
def test_bad_images(tmp_path, arrays, expected):
    np.savez(tmp_path / "train.npz", labels=np.array([0, 1, 0, 1]), **arrays)
    load_it = lambda: load(tmp_path / "train.npz", kind="image", label_field="labels")  # noqa: E731
    assert expected in message(load_it)


def test_nan_pixel_row_is_the_row_of_the_file(tmp_path):
    images = np.zeros((40, 2, 2, 1), np.float32)
    images[33, 0, 0, 0] = np.nan
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(40) % 2)
    assert "row 34 has a pixel" in message(
        lambda: load(tmp_path / "train.npz", kind="image", label_field="labels")
    )
