"""The config of a data set: the schema of the group ``dataset``."""

from __future__ import annotations

from dataclasses import dataclass, field

from snn.data.events_schema import EventsConfig
from snn.errors import DataError, did_you_mean

#: The splits that every data set ends up with.
SPLITS = ("train", "validation", "test")
TASKS = ("classification", "regression", "unlabelled", "corpus")
#: Stays light to import; a test holds it to :mod:`snn.data.policies`.
AUGMENT_POLICIES = ("autoaugment_cifar10", "autoaugment_imagenet", "autoaugment_svhn", "randaugment")


@dataclass
class CorpusConfig:
    """How plain text becomes rows.

    Attributes:
        documents: What separates two documents: ``blank``, an empty line; ``heading``, a title as in WikiText,
            `` = Title = ``; ``line``: every line is a document.
        document_field: Column of the source with a whole document in each row, instead.
        pairs: Whether rows are two texts, the second of which goes on where the first ends or comes from another
            document; or else one text that fills the row.
        random_next: Share of pairs whose second text comes from another document, in [0, 1].
        short: Share of pairs of a random shorter length, in [0, 1].
        masking: Share of tokens that are hidden or exchanged, in [0, 1); 0: none at all.
        streaming: Read as the text comes; otherwise it is stored as a table first, on disk.
    """

    documents: str = "blank"
    document_field: str | None = None
    pairs: bool = True
    random_next: float = 0.5
    short: float = 0.1
    masking: float = 0.0
    streaming: bool = True


@dataclass
class DatasetConfig:
    """What to read, which columns hold what, and how the rows become batches.

    Every field is a key of the config group ``dataset`` and can be set on the command line, e.g.
    ``dataset.max_length=64``.

    Attributes:
        name: A built-in set (``rotten_tomatoes``, ``mnist5k``, ``digits``, ``synthetic_text``) or any name of
            your own for data from ``data_dir`` or ``hub``.
        kind: ``"text"`` or ``"image"``.
        task: ``"classification"``; ``"regression"``: labels are measurements, the model has one output;
            ``"unlabelled"``: rows of any set, whose labels are left alone, to learn from a teacher on; or
            ``"corpus"``: likewise plain text.
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
            split that is ``null`` is cut off the training rows; one that is ``auto`` too, unless ``data_dir`` holds a
            folder or archive of its name (or ``val``). Empty: each split is called by its own name.
            Built-in sets come with splits of their own. Further ones, to be measured by
            ``evaluation.split``, are called ``test_NAME`` or ``validation_NAME``.
        text_fields: One column with the text, or two for a pair of texts.
        label_field: Column with the class: a number from 0, or one of ``label_names``. For NPZ the name of
            the array.
        image_field: Column or NPZ array with the images: ``[N, H, W]`` or ``[N, H, W, C]``, uint8, or floats
            in 0..1.
        rename: Column of a source → the field it stands for, where a source names its columns otherwise.
        label_names: Names of the classes in the order of their numbers; those of the Hub itself may stand in
            another order, which is then theirs. Empty: read off the training rows.
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
        corpus: Of ``task: corpus``: how the text becomes rows.
        events: Of recordings of an event camera (``kind: image``): how they become frames. ``null``: pictures.
        image_size: Height and width in pixels; of other sizes the middle is kept, resized. ``null``: as they are.
        resize: Length of the shorter side before ``image_size`` is cut out of the middle.
            ``null``: ``image_size``, so that as much as possible is kept.
        interpolation: How pictures are resized: ``"bilinear"`` or ``"bicubic"``.
        in_memory: Decode encoded pictures once and keep the pixels, rather than each time. ``null``: where they
            take 2 GiB at most and no random parts are cut out of them.
        broken: Pictures that cannot be decoded: ``"refuse"`` names them and stops (at the first, where they are decoded
            each time), ``"skip"`` leaves them out, named and counted.
        channels: 1 or 3; grey is repeated, colour is averaged by luminance. ``null``: as they are; encoded pictures
            have 1 where all of them are grey, in all splits.
        mean: Per channel, subtracted from pixels in 0..1. One number serves all channels; empty: 0.
        std: Per channel, divided by after that, > 0. One number serves all channels; empty: 1.
        augment_tokens: Tokens of training texts are replaced by tokens of other training texts: a share of up to this,
            in [0, 1), drawn for each text. Its label may then be wrong, so it suits what learns from a teacher alone.
        augment_crop: Training images are cut at random out of a frame padded by this many black pixels. 0:
            off.
        augment_flip: Half of the training images are mirrored, left to right.
        augment_resized_crop: Smallest and largest share of the area of a training picture that is cut out and
            resized, such as ``[0.08, 1.0]``. Empty: off.
        augment_policy: ``autoaugment_cifar10``, ``autoaugment_imagenet``, ``autoaugment_svhn`` or ``randaugment``.
            ``null``: off.
        augment_operations: Of ``randaugment``: operations for each picture, 1 to 8.
        augment_strength: Of ``randaugment``: share of the largest magnitude, in [0, 1].
        augment_cutout: Side of the square that is erased in every training picture, in pixels. 0: off.
        augment_erasing: Share of the training pictures of which a rectangle is erased, in [0, 1].
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
    corpus: CorpusConfig | None = None
    events: EventsConfig | None = None
    image_size: int | None = None
    resize: int | None = None
    interpolation: str = "bilinear"
    in_memory: bool | None = None
    broken: str = "refuse"
    channels: int | None = None
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    augment_tokens: float = 0.0
    augment_crop: int = 0
    augment_flip: bool = False
    augment_resized_crop: list[float] = field(default_factory=list)
    augment_policy: str | None = None
    augment_operations: int = 2
    augment_strength: float = 0.9
    augment_cutout: int = 0
    augment_erasing: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.corpus, dict):  # as a checkpoint describes it
            self.corpus = CorpusConfig(**self.corpus)
        if isinstance(self.events, dict):
            self.events = EventsConfig(**self.events)

    @property
    def labelled(self) -> bool:
        """Whether there is something to measure by."""
        return self.task in ("classification", "regression")


def split_names(config: DatasetConfig, *, hub: bool = False) -> dict[str, str | None]:
    """Which file stem or Hub split holds each split; None: cut off the training rows."""
    named = getattr(config, splits_key(config, hub=hub))
    if not named:
        return {split: split for split in SPLITS}
    further = {split: stem for split, stem in named.items() if split not in SPLITS and stem is not None}
    return {split: named.get(split) for split in SPLITS} | further


def splits_key(config: DatasetConfig, *, hub: bool) -> str:
    """The section that says where the splits lie."""
    return "hub_splits" if hub and config.hub_splits else "splits"


def without_split(key: str, split: str, cut_off: str = "training rows") -> str:
    """The end of a message that a split is missing: how to do without it, if that can be.

    Example:
        >>> without_split("dataset.splits.test", "test")
        '; dataset.splits.test=null cuts it off the training rows'
    """
    if split == "train":
        return ""
    return f"; {key}=null " + (f"cuts it off the {cut_off}" if split in SPLITS else "leaves it out")


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
    if config.task not in TASKS:
        raise DataError(f"dataset.task: unknown name {config.task!r}; {did_you_mean(config.task, TASKS)}")
    _check_corpus(config)
    if config.truncation_side not in ("right", "left"):
        raise DataError(f"dataset.truncation_side: {config.truncation_side!r} is neither 'right' nor 'left'")
    if config.label_range and (
        len(config.label_range) != 2 or config.label_range[0] >= config.label_range[1]
    ):
        raise DataError(
            f"dataset.label_range={list(config.label_range)}: the smallest measurement and the largest"
        )
    if config.label_range and config.task == "classification":
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
    for key in ("limit_train", "limit_validation", "limit_test", "image_size", "resize", "max_length"):
        if (value := getattr(config, key)) is not None and value < 1:
            raise DataError(f"dataset.{key}={value}: must be at least 1")
    if not 0 <= config.augment_tokens < 1:
        raise DataError(f"dataset.augment_tokens={config.augment_tokens}: a share of 0 or more, below 1")
    if config.augment_tokens and config.kind != "text":
        raise DataError(f"dataset.augment_tokens: for texts; dataset.kind is {config.kind}")
    _check_pictures(config)
    if config.events is not None:
        _check_events(config, config.events)
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


def _check_pictures(config: DatasetConfig) -> None:
    choices = {
        "interpolation": ("bilinear", "bicubic"),
        "broken": ("refuse", "skip"),
        "augment_policy": AUGMENT_POLICIES,
    }
    for key, known in choices.items():
        value = getattr(config, key)
        if value is not None and value not in known:
            raise DataError(f"dataset.{key}: unknown name {value!r}; {did_you_mean(value, known)}")
    for key in ("augment_crop", "augment_cutout"):
        if (value := getattr(config, key)) < 0:
            raise DataError(f"dataset.{key}={value}: a number of pixels, 0 or more")
    for key in ("augment_strength", "augment_erasing"):
        if not 0 <= (value := getattr(config, key)) <= 1:
            raise DataError(f"dataset.{key}={value}: a share from 0 to 1")
    if not 1 <= config.augment_operations <= 8:
        raise DataError(f"dataset.augment_operations={config.augment_operations}: 1 to 8")
    part = list(config.augment_resized_crop)
    if part and not (len(part) == 2 and 0 < part[0] <= part[1] <= 1):
        raise DataError(
            f"dataset.augment_resized_crop={part}: smallest and largest share of the area, such as [0.08, 1.0]"
        )
    if part and config.image_size is None:
        raise DataError(
            "dataset.augment_resized_crop needs dataset.image_size: the size that parts are brought to"
        )
    if config.resize is not None and (config.image_size is None or config.resize < config.image_size):
        raise DataError(f"dataset.resize={config.resize}: at least dataset.image_size={config.image_size}")
    if config.in_memory is False and config.image_size is None and config.kind == "image":
        raise DataError(
            "dataset.in_memory=false needs dataset.image_size, the size that pictures are brought to"
        )


def _check_events(config: DatasetConfig, events: EventsConfig) -> None:
    events.check()
    if config.kind != "image":
        raise DataError(f"dataset.events needs dataset.kind=image; got {config.kind}")
    if config.image_size is not None and events.resize == "sum" and config.image_size > min(events.sensor):
        raise DataError(
            f"dataset.image_size={config.image_size} is larger than dataset.events.sensor={list(events.sensor)}; only "
            "dataset.events.resize=bilinear makes frames larger"
        )
    pictures = ("augment_resized_crop", "augment_policy", "augment_cutout", "augment_erasing", "mean", "std")
    for key in pictures:
        if value := getattr(config, key):
            raise DataError(f"dataset.{key}={value} is for pictures; of events see dataset.events.augment")


def _check_corpus(config: DatasetConfig) -> None:
    corpus = config.corpus
    if (corpus is not None) != (config.task == "corpus"):
        raise DataError(
            f"dataset.task={config.task} and dataset.corpus={'given' if corpus else 'null'} do not go together; "
            "plain text is dataset=corpus, or dataset=wikitext2"
        )
    if corpus is None:
        return
    if config.kind != "text" or len(config.text_fields) != 1:
        raise DataError("dataset.task=corpus needs dataset.kind=text and one column of text")
    if config.metrics:
        raise DataError(
            f"dataset.metrics={list(config.metrics)}: a corpus has no labels to measure by; leave it empty"
        )
    if corpus.documents not in ("blank", "heading", "line"):
        raise DataError(
            f"dataset.corpus.documents: unknown name {corpus.documents!r}; "
            f"{did_you_mean(corpus.documents, ('blank', 'heading', 'line'))}"
        )
    for key in ("random_next", "short", "masking"):
        if not 0 <= (value := getattr(corpus, key)) <= 1:
            raise DataError(f"dataset.corpus.{key}={value}: a share between 0 and 1")
    if config.data_dir is None and config.hub is None:
        raise DataError("dataset.data_dir=FOLDER or dataset.hub=NAME must say where the text is")
