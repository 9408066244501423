"""What the registry has to know of a model beside the function that builds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A model that :func:`snn.create_model` can build.

    Args:
        build: Called with ``num_classes`` and the model's arguments, all by name. Its annotations (int,
            float, str, bool, ``Literal``, and lists of them) are what ``model.args`` is checked against; its
            defaults complete them.
        input_kind: ``"text"`` is called with ``input_ids``, ``attention_mask`` and returns an object with
            ``logits``; ``"image"`` is called with ``pixel_values`` ``[B, C, H, W]`` and returns the logits.
        head: Prefixes of the parameters that belong to the task: a weights file may lack them or hold them
            for another number of classes, and they are then newly initialised.
        optional: Further prefixes that a weights file may lack as a whole.
        renames: ``(match, to)`` pairs as in ``model.rename``, for spellings that weights of this model are
            known to have; unlike a user's rules they need not match.
        read_sizes: Reads the arguments from a folder with weights; None where weights are a bare file of
            tensors.
    """

    build: Callable[..., nn.Module]
    input_kind: Literal["text", "image"]
    head: tuple[str, ...] = ("classifier.",)
    optional: tuple[str, ...] = ()
    renames: tuple[tuple[str, str | None], ...] = ()
    read_sizes: Callable[[Path], dict[str, Any]] | None = None
