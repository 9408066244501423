"""Models by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn.errors import ConfigError
from snn.models.architecture import Architecture, WeightsDescription
from snn.models.arguments import check_names, complete_arguments
from snn.models.weights import find_weights, load_weights, read_tensors
from snn.registry import Registry

if TYPE_CHECKING:
    from torch import nn

MODELS = Registry(
    "model",
    {
        "bert": "snn.models.families:BERT",
        "distilbert": "snn.models.families:DISTILBERT",
        "roberta": "snn.models.families:ROBERTA",
        "t5_encoder": "snn.models.families:T5_ENCODER",
        "qkformer": "snn.models.qkformer:QKFORMER",
        "resnet18": "snn.models.resnet:RESNET18",
        "resnet20": "snn.models.resnet:RESNET20",
        "resnet34": "snn.models.resnet:RESNET34",
        "sdt": "snn.models.sdt:SDT",
        "spikformer": "snn.models.spikformer:SPIKFORMER",
        "spikingbert": "snn.models.spikingbert.model:SPIKINGBERT",
        "tim": "snn.models.tim:TIM_SPIKFORMER",
        "timm": "snn.models.timm_model:TIMM",
        "vgg16": "snn.models.vgg:VGG16",
        "vit": "snn.models.vit:VIT",
    },
)


def list_models(pattern: str = "*", native: bool | None = None) -> list[str]:
    """Names that :func:`create_model` knows and that match a shell-style pattern.

    Args:
        pattern: Shell-style pattern.
        native: True: only networks that are trained as spiking ones; False: only the others, which can be
            converted; None: all.

    Example:
        >>> list_models("*net*")
        ['resnet18', 'resnet20', 'resnet34']
        >>> list_models(native=True)
        ['qkformer', 'sdt', 'spikformer', 'spikingbert', 'tim']
    """
    names = MODELS.names(pattern)
    return names if native is None else [name for name in names if architecture_of(name).native == native]


def spikes_by_itself(model: nn.Module) -> bool:
    """Whether a network of :func:`create_model` was built as a spiking one, so that there is nothing to convert."""
    spec: Any = model.spec
    return architecture_of(spec["name"]).native


def create_model(
    name: str,
    /,
    *,
    weights: str | Path | None = None,
    num_classes: int = 2,
    activation: str | None = None,
    labels: Sequence[str] = (),
    cache_dir: str | Path | None = None,
    rename: Sequence[Any] = (),
    **args: Any,
) -> nn.Module:
    """Build a network, with random or given weights.

    Random weights are drawn from torch's global generator. The network has two plain attributes, which
    ``deepcopy`` keeps and ``state_dict`` does not hold: ``spec``, a dict of YAML types such that
    ``create_model(spec["name"], **spec["args"])`` builds the same architecture with neither files nor
    network, and ``input_kind``, ``"text"`` or ``"image"``.

    Args:
        name: A registered name.
        weights: None for random weights; ``"minilm"``; a folder; a ``.safetensors`` file; the name of a text
            model on the Hub; ``"pretrained"`` for what timm has. No code that comes with them is run.
        num_classes: Width of the classifier; 1 for regression.
        activation: Instead of the network's own, such as ``"relu"`` for a network made with GELU; None leaves it.
        labels: Classes in the order in which they are numbered here; a head that comes with the weights and
            names the same classes in another order is put into this one.
        cache_dir: Where pinned weights are kept; None for the default place.
        rename: Rules ``{match, to}`` that translate the keys of the weights file, see
            :class:`~snn.models.schema.RenameRule`.
        **args: Sizes and options of this model. None means «not given»: as in the weights' ``config.json``,
            or else the default.

    Raises:
        ConfigError: Unknown name or argument, a value that cannot work, or weights that cannot be found.
        CheckpointError: Weights that are damaged or do not fit the network.

    Example:
        >>> model = create_model("bert", num_classes=3, hidden_size=8, num_attention_heads=2, vocab_size=50)
        >>> model.spec["args"]["hidden_size"], model.input_kind
        (8, 'text')
    """
    architecture = architecture_of(name)
    if activation is not None:
        args[architecture.activation] = activation
    check_names(name, architecture.build, args)
    if weights is None and rename:
        raise ConfigError("model.rename: rules for a weights file, but model.weights is null")
    named = architecture.pretrained.get(str(weights))
    source = None
    if named is None:
        source = find_weights(weights, cache_dir, architecture.input_kind, tuple(architecture.pretrained))
    described = WeightsDescription()
    if source is not None and architecture.describe is not None:
        described = architecture.describe(source.path)
    args = complete_arguments(
        name, architecture.build, args, defaults=described.args, num_classes=num_classes
    )
    model = architecture.build(**args)
    if named is not None:
        load_weights(model, str(weights), named(args, cache_dir), architecture, described, rename, labels)
    elif source is not None:
        load_weights(model, source.name, read_tensors(source), architecture, described, rename, labels)
    model.spec = {"name": name, "args": args}  # type: ignore[assignment]
    model.input_kind = architecture.input_kind  # type: ignore[assignment]
    return model


def architecture_of(name: str) -> Architecture:
    """What is known of a registered model.

    Raises:
        ConfigError: No such name; the message suggests the nearest.
    """
    target = MODELS.get(name)
    # A class or function of the user's own, as it comes.
    return (
        target
        if isinstance(target, Architecture)
        else Architecture(target, getattr(target, "input_kind", "image"))
    )
