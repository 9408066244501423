"""Plain text as rows: documents, pairs, packing, masking; seeded; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn.data.corpus import find_text
from snn.data.load import load_dataset
from snn.data.packing import Frame, masked, pairs, segments
from snn.data.schema import CorpusConfig, DatasetConfig
from snn.data.tokenizer import build_tokenizer
from snn.errors import DataError

WORDS = [f"w{i}" for i in range(60)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("words")
    rows = [{"text": word, "label": i % 2} for i, word in enumerate([*WORDS, "."])]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = DatasetConfig(name="words", data_dir=str(folder), splits={"train": "train"})
    return build_tokenizer(config, vocabulary_size=400)


def story(document: int, lines: int = 6) -> list[str]:
    """Each document has words of its own: a row's words say where its texts come from."""
    own = WORDS[document * 6 : document * 6 + 6]
    return [" ".join(own[(i + j) % 6] for j in range(3)) + " . " + own[i % 6] + " ." for i in range(lines)]


def write(folder: Path, documents: int = 10, heading: bool = False, name: str = "train.txt") -> Path:
    texts = [[f" = w{d * 6} = ", "", *story(d)] if heading else [*story(d), ""] for d in range(documents)]
    path = folder / name
    path.write_text("\n".join("\n".join(lines) for lines in texts))
    return path


def config(folder: Path, max_length: int = 24, **corpus: Any) -> DatasetConfig:
    limits = {key: corpus.pop(key) for key in ("limit_train", "text_fields") if key in corpus}
    return DatasetConfig(
        name="corpus",
        task="corpus",
        metrics=[],
        data_dir=str(folder),
        splits={"train": "train", "validation": None, "test": None},
        max_length=max_length,
        corpus=CorpusConfig(**corpus),
        **limits,
    )


def origins(row: dict[str, Any], tokenizer: Any) -> list[set[int]]:
    """The documents that the first and the second text of a row come from."""
    found: list[set[int]] = [set(), set()]
    for token, kind in zip(row["input_ids"].tolist(), row["token_type_ids"].tolist()):
        word = tokenizer.convert_ids_to_tokens(token)
        if word in WORDS:
            found[kind].add(WORDS.index(word) // 6)
    return found


@pytest.mark.parametrize("heading", [False, True])
def test_pairs_within_and_between_documents(tmp_path: Path, tokenizer: Any, heading: bool) -> None:
    write(tmp_path, heading=heading)
    asked = config(tmp_path, documents="heading" if heading else "blank", short=0.0)
    data = load_dataset(asked, seed=0, tokenizer=tokenizer)
    rows = [data.splits["train"][i] for i in range(len(data.splits["train"]))]
    both = [origins(row, tokenizer) for row in rows]
    assert all(len(first) == len(second) == 1 for first, second in both)
    same = sum(first == second for first, second in both)
    assert 0 < same < len(rows)
    assert max(len(row["input_ids"]) for row in rows) <= 24
    for row in rows:
        ids = row["input_ids"].tolist()
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert ids.count(tokenizer.sep_token_id) == 2
    assert (data.num_classes, data.label_names) == (1, [])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 1)])
def test_the_share_of_foreign_texts(tmp_path: Path, tokenizer: Any, share: float, expected: int) -> None:
    write(tmp_path)
    data = load_dataset(config(tmp_path, random_next=share, short=0.0), seed=0, tokenizer=tokenizer)
    split = data.splits["train"]
    found = [origins(split[i], tokenizer) for i in range(len(split))]
    assert {int(first != second) for first, second in found} == {expected}


def test_texts_end_to_end_lose_nothing(tmp_path: Path, tokenizer: Any) -> None:
    write(tmp_path)
    data = load_dataset(config(tmp_path, pairs=False, documents="blank"), seed=0, tokenizer=tokenizer)
    seen = []
    for split in data.splits.values():
        for i in range(len(split)):
            ids = split[i]["input_ids"].tolist()
            assert set(split[i]["token_type_ids"].tolist()) == {0}
            seen += [token for token in ids if token not in tokenizer.all_special_ids]
    whole = " ".join(line for document in range(10) for line in story(document))
    assert sorted(seen) == sorted(tokenizer(whole, add_special_tokens=False)["input_ids"])


def test_documents_are_held_out_whole_and_whatever_the_seed(tmp_path: Path, tokenizer: Any) -> None:
    write(tmp_path)
    held = []
    for seed in (0, 1):
        data = load_dataset(config(tmp_path, random_next=0.0), seed=seed, tokenizer=tokenizer)
        split = {
            k: {d for i in range(len(s)) for d in origins(s[i], tokenizer)[0]} for k, s in data.splits.items()
        }
        assert not split["train"] & (split["validation"] | split["test"])
        held.append((split["validation"], split["test"], len(data.splits["train"])))
    assert held[0][:2] == held[1][:2]


def test_the_seed_decides_pairs(tmp_path: Path, tokenizer: Any) -> None:
    write(tmp_path)
    prints = [load_dataset(config(tmp_path), seed=s, tokenizer=tokenizer).fingerprint for s in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_no_masking_is_none_at_all(tmp_path: Path, tokenizer: Any) -> None:
    write(tmp_path)
    for rate, expected in ((0.0, 0.0), (0.4, 0.4)):
        data = load_dataset(config(tmp_path, masking=rate, pairs=False), seed=0, tokenizer=tokenizer)
        split: Any = data.splits["train"]
        share = float((split.ids == tokenizer.mask_token_id).mean())
        # Most of the chosen ones become the mask token.
        assert share == 0 if rate == 0 else 0.5 * expected < share < expected


def test_masking_takes_its_share_and_spares_special_tokens(tokenizer: Any) -> None:
    rng = np.random.default_rng(0)
    ids = np.full(10_002, 7, np.int32)
    text = np.ones(10_002, bool)
    text[[0, -1]] = False
    masked(ids, text, 0.5, tokenizer, rng)
    assert (ids[0], ids[-1]) == (7, 7)
    hidden = (ids == tokenizer.mask_token_id).mean()
    assert hidden == pytest.approx(0.4, abs=0.02)
    assert (ids != 7).mean() == pytest.approx(0.45, abs=0.02)


def test_a_limit_ends_the_reading(tmp_path: Path, tokenizer: Any) -> None:
    write(tmp_path)
    data = load_dataset(config(tmp_path, limit_train=3), seed=0, tokenizer=tokenizer)
    assert len(data.splits["train"]) == 3


@pytest.mark.parametrize("streaming", [True, False])
def test_a_column_of_documents(tmp_path: Path, tokenizer: Any, streaming: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [json.dumps({"body": "\n".join(story(d))}) for d in range(10)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    asked = config(tmp_path, document_field="body", streaming=streaming)
    data = load_dataset(asked, seed=0, tokenizer=tokenizer)
    write(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    plain = load_dataset(config(tmp_path, streaming=streaming), seed=0, tokenizer=tokenizer)
    ours, theirs = (d.splits["train"] for d in (data, plain))
    assert np.array_equal(ours.ids, theirs.ids)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("documents", "corpus", "expected"),
    [
        (1, {}, r"1 document\(s\) in the train split; at least 2 are needed.*separated by blanks"),
        (10, {"documents": "heading"}, r"1 document\(s\).*separated by headings"),
        (10, {"documents": "chapter"}, "dataset.corpus.documents: unknown name 'chapter'"),
        (10, {"masking": 1.5}, r"dataset.corpus.masking=1.5: a share between 0 and 1"),
        (10, {"document_field": "body"}, "dataset.corpus.document_field"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, tokenizer: Any, documents: int, corpus: dict[str, Any], expected: str
) -> None:
    if corpus.get("document_field"):
        (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": "b"}')
        expected = "no text in column 'body'; columns: text"
    else:
        write(tmp_path, documents)
    with pytest.raises(DataError, match=expected) as error:
        load_dataset(config(tmp_path, **corpus), seed=0, tokenizer=tokenizer)
    assert "\n" not in str(error.value)


def test_a_corpus_is_not_half_said(tmp_path: Path, tokenizer: Any) -> None:
    asked = config(write(tmp_path))
    asked.metrics = ["accuracy"]
    with pytest.raises(DataError, match="a corpus has no labels to measure by"):
        load_dataset(asked, seed=0, tokenizer=tokenizer)
    asked.corpus = None
    with pytest.raises(DataError, match="do not go together; plain text is dataset=corpus"):
        load_dataset(asked, seed=0, tokenizer=tokenizer)


def test_files_are_found_or_listed(tmp_path: Path) -> None:
    path = write(tmp_path, name="valid.txt")
    assert find_text(tmp_path, "validation", "valid") == find_text(path, "train", "x") == path
    with pytest.raises(DataError, match=r"no train\.txt in .*, which holds: valid\.txt"):
        find_text(tmp_path, "train", "train")
    with pytest.raises(DataError, match=r"dataset\.splits\.test=null cuts it off"):
        find_text(tmp_path, "test", "test")


def test_a_document_described_by_a_checkpoint(tmp_path: Path) -> None:
    from dataclasses import asdict

    asked = config(tmp_path, masking=0.1)
    assert DatasetConfig(**asdict(asked)) == asked


def test_a_frame_is_what_the_tokenizer_makes(tokenizer: Any) -> None:
    texts = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("w1 w2 w3", "w4 w5")]
    arrays = [np.array(ids) for ids in texts]
    for given, expected in ((arrays, tokenizer("w1 w2 w3", "w4 w5")), (arrays[:1], tokenizer("w1 w2 w3"))):
        frame = Frame(tokenizer, paired=len(given) == 2)
        ids, types = frame.row(given)
        assert (ids.tolist(), types.tolist()) == (expected["input_ids"], expected["token_type_ids"])
        assert frame.size == tokenizer.num_special_tokens_to_add(pair=len(given) == 2)


def test_pairs_fill_the_room_and_use_every_sentence() -> None:
    rng = np.random.default_rng(0)
    documents = [[np.full(5, 10 * d + s) for s in range(7)] for d in range(3)]
    made = list(pairs(documents, room=20, short=0.0, random_next=0.0, rng=rng))
    assert all(min(len(a), len(b)) > 0 and len(a) + len(b) <= 20 for a, b in made)
    used = {int(token) for pair in made for text in pair for token in text}
    assert used == {10 * d + s for d in range(3) for s in range(7)}
    short = list(pairs(documents, room=20, short=1.0, random_next=0.0, rng=rng))
    assert np.mean([len(a) + len(b) for a, b in short]) < np.mean([len(a) + len(b) for a, b in made])
    assert [len(s) for s in segments(documents[0], 20)] == [20, 15]
