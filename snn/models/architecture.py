"""What the registry has to know of a model beside the function that builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

Renames = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class WeightsDescription:
    """What a folder says of the tensors in it.

    Args:
        args: Arguments of the model that fit them.
        label_names: Classes in the order of the head's outputs; empty where the folder does not say.
        renames: ``(match, to)`` pairs for spellings that such tensors are known to have.
        convert: Turns the renamed tensors into those of the model, where they belong to another one.
    """

    args: Mapping[str, Any] = field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    renames: Renames = ()
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None


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
        output: Name of the layer that has one row per class.
        optional: Further prefixes that a weights file may lack as a whole.
        activation: The argument that names its activation.
        token_types: Whether a text model takes ``token_type_ids``.
        describe: Reads what a folder says of its weights; None where weights are a bare file of tensors.
        longest: From the arguments, the longest text in tokens; None where any length will do.
        native: Whether it spikes by itself, so that there is nothing to convert. It is built with ``T``. One for
            pictures is also built with ``neuron``, takes pictures or frames ``[B, T, C, H, W]`` and returns the
            logits of every step, ``[T, B, num_classes]``; one for texts has neurons of its own.
        pretrained: What ``model.weights`` may name besides files → function of the arguments and the cache folder
            that returns the tensors.
        pictures: From the arguments, how pictures were prepared for the weights called ``pretrained``: keys of
            ``dataset`` with their values; None where nobody says.
    """

    build: Callable[..., nn.Module]
    input_kind: Literal["text", "image"]
    head: tuple[str, ...] = ("classifier.",)
    output: str = "classifier"
    optional: tuple[str, ...] = ()
    activation: str = "activation"
    token_types: bool = False
    describe: Callable[[Path], WeightsDescription] | None = None
    longest: Callable[[Mapping[str, Any]], int | None] | None = None
    native: bool = False
    pretrained: Mapping[str, Callable[[Mapping[str, Any], Any], dict[str, Tensor]]] = field(
        default_factory=dict
    )
    pictures: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
