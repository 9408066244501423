"""Text encoders with a classifier on top: one machinery for every family of them.

The families differ in facts (:class:`TextFamily`): how their library spells the sizes, which tensors belong
to the head, and how the weights of another family are re-expressed in theirs.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from snn.errors import CheckpointError, ConfigError
from snn.models.architecture import Architecture, Renames, WeightsDescription
from snn.models.sizes import Sizes, check_sizes

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Conversion:
    """How the weights of another family become those of this one.

    Args:
        source: The other family.
        args: Its sizes → sizes of this family; raises a ConfigError where there are none.
        tensors: Its tensors, without the prefix of its encoder, and the sizes of this family → tensors of this
            family, head excluded.
    """

    source: TextFamily
    args: Callable[[dict[str, Any]], dict[str, Any]]
    tensors: Callable[[dict[str, Tensor], dict[str, Any]], dict[str, Tensor]]


@dataclass(frozen=True)
class TextFamily:
    """What is particular to one family of text encoders.

    Args:
        name: Registered name.
        model_type: What ``config.json`` calls it.
        config: Its class of configs, a name in transformers.
        network: Its network for classification, ``"module:class"``.
        spelling: Size → what the family's config calls it, for all sizes that the family has.
        defaults: Sizes whose defaults are not those of :class:`~snn.models.sizes.Sizes`.
        settings: Further arguments of its config.
        prefix: Name of the encoder within the network.
        head: See :class:`~snn.models.architecture.Architecture`; likewise ``output``, ``optional``,
            ``token_types``.
        renames: Spellings that its weights are known to have.
        offset: Whether positions count from ``pad_token_id + 1``.
        prepare: Turns the tensors of a file of its own into those of the network.
        conversions: Further families whose weights it can take.
    """

    name: str
    model_type: str
    config: str
    network: str
    spelling: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    head: tuple[str, ...] = ("classifier.",)
    output: str = "classifier"
    optional: tuple[str, ...] = ()
    token_types: bool = False
    renames: Renames = ()
    offset: bool = False
    prepare: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    conversions: tuple[Conversion, ...] = ()

    def architecture(self) -> Architecture:
        """What the registry wants to know."""

        def build(num_classes: int, **sizes: Any) -> nn.Module:
            return self.build(num_classes, sizes)

        hints = get_type_hints(Sizes)
        defaults = {f.name: self.defaults.get(f.name, f.default) for f in fields(Sizes)}
        build.__annotations__ = {"num_classes": int} | {name: hints[name] for name in self.spelling}
        build.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name, inspect.Parameter.empty)
                )
                for name in build.__annotations__
            ]
        )
        return Architecture(
            build=build,
            input_kind="text",
            head=self.head,
            output=self.output,
            optional=self.optional,
            activation="hidden_act",
            token_types=self.token_types,
            describe=self.describe,
            longest=self.longest,
        )

    def build(self, num_classes: int, sizes: Mapping[str, Any]) -> nn.Module:
        """Build the network with random weights.

        Attention is the eager one: its softmax is a visible call, so a rule can put a quantiser behind it.

        Args:
            num_classes: Width of the classifier.
            sizes: All sizes of the family, see :class:`~snn.models.sizes.Sizes`.

        Shape:
            ``input_ids``, ``attention_mask`` ``[B, S]`` to ``.logits`` ``[B, num_classes]``.

        Raises:
            ConfigError: A size that cannot work.
        """
        import transformers

        check_sizes(sizes)
        wanted = {self.spelling[name]: value for name, value in sizes.items()}
        if sizes["classifier_dropout"] is None:
            wanted[self.spelling["classifier_dropout"]] = sizes["hidden_dropout_prob"]
        config = getattr(transformers, self.config)(
            **wanted, **self.settings, num_labels=num_classes, attn_implementation="eager"
        )
        module, _, name = self.network.partition(":")
        return getattr(import_module(module), name)(config)

    def longest(self, args: Mapping[str, Any]) -> int | None:
        """Tokens in the longest text that the table of positions has rows for."""
        rows = args.get("max_position_embeddings")
        return rows if rows is None or not self.offset else rows - args["pad_token_id"] - 1

    def describe(self, folder: Path) -> WeightsDescription:
        """Read what ``config.json`` in a folder says of the weights beside it.

        Raises:
            CheckpointError: The file is damaged.
            ConfigError: It describes weights that this family cannot take.
        """
        path = folder / "config.json"
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            kind = written.get("model_type", self.model_type)
        except (ValueError, AttributeError) as error:
            raise CheckpointError(f"model.weights: {path} is damaged: {error}") from None
        if kind == self.model_type:
            sizes = self.read_sizes(written, path)
            return WeightsDescription(sizes, label_names(written), self.renames, self.prepare)
        for conversion in self.conversions:
            source = conversion.source
            if kind == source.model_type:
                sizes = conversion.args(source.read_sizes(written, path))
                convert = partial(_converted, conversion=conversion, sizes=sizes)
                return WeightsDescription(sizes, (), source.renames, convert)
        known = [self.model_type, *(c.source.model_type for c in self.conversions)]
        raise ConfigError(
            f"model.weights: {path} describes a model of type {kind!r}; model={self.name} needs "
            f"{' or '.join(map(repr, known))}"
        )

    def read_sizes(self, written: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """The sizes that a ``config.json`` of this family says; what it leaves out has its library's default.

        Raises:
            CheckpointError: It is damaged.
            ConfigError: It describes a network that is no encoder with absolute positions, or T5's.
        """
        import transformers

        if written.get("position_embedding_type", "absolute") != "absolute" or written.get("is_decoder"):
            raise ConfigError(
                f"model.weights: {path} describes a decoder or relative positions; "
                f"model={self.name} has neither"
            )
        # Names of classes and the like are of no concern here, and need not fit one another.
        fitting = {k: v for k, v in written.items() if k not in ("id2label", "label2id", "num_labels")}
        try:
            config = getattr(transformers, self.config).from_dict(fitting)
        except Exception as error:  # the library's checks raise errors of their own making
            reason = " ".join(str(error).split())
            raise CheckpointError(f"model.weights: {path} is damaged: {reason}") from None
        return {name: getattr(config, theirs, None) for name, theirs in self.spelling.items()}


def _converted(
    tensors: dict[str, Tensor], conversion: Conversion, sizes: dict[str, Any]
) -> dict[str, Tensor]:
    prefix = f"{conversion.source.prefix}."
    bare = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return conversion.tensors(bare, sizes)


def label_names(written: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes in a ``config.json``, in order; none where they are placeholders.

    Example:
        >>> label_names({"id2label": {"1": "POSITIVE", "0": "NEGATIVE"}})
        ('NEGATIVE', 'POSITIVE')
        >>> label_names({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})
        ()
    """
    listed = written.get("id2label") or {}
    try:
        names = tuple(str(listed[key]) for key in sorted(listed, key=int))
    except (ValueError, TypeError):
        return ()
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names
