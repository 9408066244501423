"""The classes of a head that comes with weights, in the order in which the data set numbers them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from snn.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


def ordered_head(
    tensors: Mapping[str, Tensor], output: str, theirs: Sequence[str], ours: Sequence[str], source: str
) -> dict[str, Tensor]:
    """The tensors of the layer ``output``, with a row for each class in our order.

    Models that are fine-tuned on the same task number its classes differently (those of MNLI exist in three
    orders), and a head in the wrong order is worse than none. Names are compared without case and punctuation.

    Args:
        tensors: What is going to be loaded.
        output: Name of the layer that has one row per class.
        theirs: Classes in the order of its rows; empty where nobody says.
        ours: Classes in the order that is wanted; empty where the data set does not name them.
        source: The weights, for messages.

    Returns:
        The tensors of that layer in our order; empty where there is nothing to be changed.
    """
    head = {key: value for key, value in tensors.items() if key.rpartition(".")[0] == output}
    if not head or not theirs or not ours:
        return {}
    if all(name.isdigit() for name in ours):
        _warn_of_numbers(f"head of {source}", theirs, ours)
        return {}
    have, want = [_plain(name) for name in theirs], [_plain(name) for name in ours]
    if have == want:
        return {}
    if sorted(have) != sorted(want) or len(set(have)) < len(have):
        log.warning(
            "The head of %s is for the classes %s, those here are %s: it is taken as it is",
            source,
            ", ".join(theirs),
            ", ".join(ours),
        )
        return {}
    log.info("The head of %s has the classes in the order %s: put into ours", source, ", ".join(theirs))
    rows = [have.index(name) for name in want]
    return {key: value[rows] for key, value in head.items()}


def check_classes(theirs: Sequence[str], ours: Sequence[str], source: str) -> None:
    """Compare the classes of a checkpoint with the data's; where their names differ altogether, say so.

    Args:
        theirs: Classes in the order of the checkpoint's read-out; empty where nobody says.
        ours: Classes in the order in which the data set numbers them.
        source: The checkpoint, for messages.

    Raises:
        ConfigError: The same names in another order: every figure would be wrong.
    """
    have, want = [_plain(name) for name in theirs], [_plain(name) for name in ours]
    if not have or not want or have == want:
        return
    if all(name.isdigit() for name in want):
        _warn_of_numbers(f"checkpoint {source}", theirs, ours)
        return
    if sorted(have) == sorted(want):
        raise ConfigError(
            f"the checkpoint {source} has the classes in the order {', '.join(theirs)}, the data set in the order "
            f"{', '.join(ours)}: dataset.label_names=[{','.join(theirs)}] numbers labels that are names alike"
        )
    log.warning(
        "The checkpoint %s is for the classes %s, those here are %s: they are taken one for one",
        source,
        ", ".join(theirs),
        ", ".join(ours),
    )


def _warn_of_numbers(where: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Say what the numbers of a data set without names are taken for."""
    if not all(name.isdigit() for name in theirs):
        pairs = ", ".join(f"{number} is {name}" for number, name in zip(ours, theirs, strict=False))
        log.warning(
            "The %s has names for its classes, the data set numbers alone: %s; dataset.label_names=[...] names them",
            where,
            pairs,
        )


def _plain(name: str) -> str:
    return re.sub(r"\W|_", "", name).lower()
