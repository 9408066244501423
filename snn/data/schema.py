"""The config of a data set: the schema of the group ``dataset``."""

from __future__ import annotations

from dataclasses import dataclass, field

from snn.errors import DataError, did_you_mean

#: The splits that every data set ends up with.
SPLITS = ("train", "validation", "test")


@dataclass
class DatasetConfig:
    """What to read, which columns hold what, and how the rows become batches.

    Every field is a key of the config group ``dataset`` and can be set on the command line, e.g.
    ``dataset.max_length=64``.

    Attributes:
        name: A built-in set (``rotten_tomatoes``, ``mnist5k``, ``digits``, ``synthetic_text``) or any name of
            your own for data from ``data_dir`` or ``hub``.
        kind: ``"text"`` or ``"image"``.
        task: ``"classification"``, or ``"regression"``: labels are measurements, the model has one output.
        metrics: What is reported, all of one task; a network is judged by the first. ``accuracy``, ``f1``,
            ``matthews``; ``pearson``, ``spearman``.
        data_dir: Folder with one file (or several numbered parts) per split, or one single file that is then
            cut into the three splits. Wins over everything else. TSV (never quoted), CSV, JSON, JSONL, each
            also as ``.gz`` or ``.bz2``; Parquet; NPZ for images.
        hub: Repository of a data set on the Hub, such as ``nyu-mll/glue``.
        hub_config: Configuration inside that repository, such as ``sst2``.
        hub_revision: Branch, tag or commit of that repository.
        hub_splits: As ``splits``, for the Hub only, where it names its splits otherwise.
        splits: ``train``, ``validation``, ``test`` → stem of a file in ``data_dir``, or a split of the Hub. A
            split that is ``null`` is cut off the training rows. Empty: each split is called by its own name.
            Built-in sets come with splits of their own. Further ones, to be measured by
            ``evaluation.split``, are called ``test_NAME`` or ``validation_NAME``.
        text_fields: One column with the text, or two for a pair of texts.
        label_field: Column with the class: a number from 0, or one of ``label_names``. For NPZ the name of
            the array.
        image_field: Column or NPZ array with the images: ``[N, H, W]`` or ``[N, H, W, C]``, uint8, or floats
            in 0..1.
        rename: Column of a source → the field it stands for, where a source names its columns otherwise.
        label_names: Names of the classes in the order of their numbers. Empty: read off the training rows.
        label_range: Smallest and largest measurement that there can be. Empty: any number.
        validation_fraction: Share of the training rows that become the validation split where there is none,
            in (0, 1).
        test_fraction: The same for the test split, taken first, in (0, 1).
        limit_train: Use this many training rows only, drawn with the run's seed, classes in proportion.
        limit_validation: The same for validation, but the same rows whatever the seed.
        limit_test: The same for test, but the same rows whatever the seed.
        max_length: Longest text in tokens, special tokens included; the rest is cut off.
        truncation_side: Where it is cut off: ``"right"``, or ``"left"``, which keeps the end. Of a pair, the longer
            text is cut.
        strip_html: Put a space in place of each HTML tag, and the character in place of each ``&...;``.
        strip_spaces: Put one space in place of any white space, none at both ends.
        lower: Put the text into lower case before it is tokenised.
        image_size: Height and width in pixels; other sizes are resized once. ``null``: as they are.
        channels: 1 or 3; grey is repeated, colour is averaged by luminance. ``null``: as they are.
        mean: Per channel, subtracted from pixels in 0..1. One number serves all channels; empty: 0.
        std: Per channel, divided by after that, > 0. One number serves all channels; empty: 1.
        augment_crop: Training images are cut at random out of a frame padded by this many black pixels. 0:
            off.
        augment_flip: Half of the training images are mirrored, left to right.
    """

    name: str = "rotten_tomatoes"
    kind: str = "text"
    task: str = "classification"
    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    data_dir: str | None = None
    hub: str | None = None
    hub_config: str | None = None
    hub_revision: str | None = None
    hub_splits: dict[str, str | None] = field(default_factory=dict)
    splits: dict[str, str | None] = field(default_factory=dict)
    text_fields: list[str] = field(default_factory=lambda: ["text"])
    label_field: str = "label"
    image_field: str = "images"
    rename: dict[str, str] = field(default_factory=dict)
    label_names: list[str] = field(default_factory=list)
    label_range: list[float] = field(default_factory=list)
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    limit_train: int | None = None
    limit_validation: int | None = None
    limit_test: int | None = None
    max_length: int = 128
    truncation_side: str = "right"
    strip_html: bool = False
    strip_spaces: bool = False
    lower: bool = False
    image_size: int | None = None
    channels: int | None = None
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    augment_crop: int = 0
    augment_flip: bool = False


def split_names(config: DatasetConfig, *, hub: bool = False) -> dict[str, str | None]:
    """Which file stem or Hub split holds each split; None: cut off the training rows."""
    named = (config.hub_splits if hub else None) or config.splits
    if not named:
        return {split: split for split in SPLITS}
    further = {split: stem for split, stem in named.items() if split not in SPLITS and stem is not None}
    return {split: named.get(split) for split in SPLITS} | further


def role(split: str) -> str:
    """Which of the three a split stands beside.

    Example:
        >>> role("test_mismatched")
        'test'
    """
    return split.partition("_")[0]


def check(config: DatasetConfig) -> None:
    """Refuse values that cannot work, before any file is opened.

    Raises:
        DataError: Names the key, what came and what was expected.
    """
    if config.kind not in ("text", "image"):
        raise DataError(f"dataset.kind: {config.kind!r} is neither 'text' nor 'image'")
    if config.task not in ("classification", "regression"):
        raise DataError(f"dataset.task: {config.task!r} is neither 'classification' nor 'regression'")
    if config.truncation_side not in ("right", "left"):
        raise DataError(f"dataset.truncation_side: {config.truncation_side!r} is neither 'right' nor 'left'")
    if config.label_range and (
        len(config.label_range) != 2 or config.label_range[0] >= config.label_range[1]
    ):
        raise DataError(
            f"dataset.label_range={list(config.label_range)}: the smallest measurement and the largest"
        )
    if config.label_range and config.task != "regression":
        raise DataError(
            "dataset.label_range: classes have none; leave it empty, or set dataset.task=regression"
        )
    if config.label_names and config.task == "regression":
        raise DataError("dataset.label_names: measurements have none; leave it empty")
    for key in ("validation_fraction", "test_fraction"):
        if not 0 < (value := getattr(config, key)) < 1:
            raise DataError(
                f"dataset.{key}={value}: a share of the training rows between 0 and 1 (both excluded)"
            )
    for key in ("limit_train", "limit_validation", "limit_test", "image_size", "max_length"):
        if (value := getattr(config, key)) is not None and value < 1:
            raise DataError(f"dataset.{key}={value}: must be at least 1")
    if config.augment_crop < 0:
        raise DataError(f"dataset.augment_crop={config.augment_crop}: a number of pixels, 0 or more")
    if config.channels not in (None, 1, 3):
        raise DataError(f"dataset.channels={config.channels}: must be 1, 3 or null")
    if config.kind == "text" and len(config.text_fields) not in (1, 2):
        raise DataError(
            f"dataset.text_fields={list(config.text_fields)}: one column, or two for a pair of texts"
        )
    for key in ("splits", "hub_splits"):
        named = getattr(config, key)
        for split in named:
            if split not in SPLITS and not split.startswith(("validation_", "test_")):
                raise DataError(f"dataset.{key}: unknown split {split!r}; {did_you_mean(split, SPLITS)}")
        if named and not named.get("train"):
            raise DataError(f"dataset.{key}.train is missing: it names the file or Hub split to train on")
    for key in ("label_names", "text_fields"):
        values = list(getattr(config, key))
        if len(set(values)) < len(values):
            raise DataError(f"dataset.{key}={values}: a name comes twice")
