"""Any network for pictures that timm knows, by name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from snn.errors import ConfigError, did_you_mean
from snn.models.activation import Activation, make_activation
from snn.models.architecture import Architecture
from snn.models.arguments import require
from snn.models.efficientnet_lite import efficientnet_lite0_tensors
from snn.models.pictures import PictureCheck
from snn.models.pooling import Pool, average_pooling

#: What ``model.args.activation`` puts another in place of: activations, not the gates of squeeze-and-excitation.
ACTIVATIONS = (
    "ReLU",
    "ReLU6",
    "GELU",
    "GELUTanh",
    "QuickGELU",
    "SiLU",
    "Swish",
    "Hardswish",
    "HardSwish",
    "Mish",
)


def build(
    num_classes: int,
    name: str = "resnet34",
    in_channels: int = 3,
    image_size: int | None = None,
    activation: Activation | None = None,
    pool: Pool | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    options: dict[str, Any] = {},  # noqa: B006  (read only)
) -> nn.Module:
    """Build a network of timm with random weights. Its modules keep timm's names.

    Args:
        num_classes: Width of the classifier.
        name: A name that ``timm.list_models()`` lists, with or without the tag of weights.
        in_channels: Channels of a picture: 3 for colour, 1 for grey.
        image_size: Height and width in pixels, for networks that are built for one size, such as ViT; others
            take any. None: the size that timm has for it.
        activation: ``relu``, ``gelu`` or ``silu`` in place of every activation module; None leaves them.
        pool: ``average`` puts the mean in place of every max-pooling; None and ``max`` leave them.
        dropout: Before the classifier, in [0, 1).
        drop_path: Share of residual branches left out in training, in [0, 1).
        options: Further arguments of ``timm.create_model``, such as ``{depth: 4}``.

    Shape:
        ``pixel_values`` ``[B, in_channels, H, W]`` to logits ``[B, num_classes]``.

    Raises:
        ConfigError: timm knows no such network, or it does not take an option.
    """
    model = _create(name, _settings(num_classes, name, in_channels, image_size, dropout, drop_path, options))
    if pool == "average":
        average_pooling(model)
    if activation is not None:
        _replace_activations(model, activation)
    size = image_size if _has_one_size(name) else None
    model.register_forward_pre_hook(PictureCheck(in_channels, size), with_kwargs=True)
    return model


def pretrained(args: Mapping[str, Any], cache_dir: Any = None) -> dict[str, Tensor]:
    """The weights that timm has for a name, fetched by timm itself, for these channels and this size.

    Raises:
        ConfigError: There are none, or no network to fetch them.
    """
    known = ("name", "in_channels", "image_size", "options")
    settings = _settings(None, **{key: args[key] for key in known}, dropout=0.0, drop_path=0.0)
    try:
        return _create(args["name"], settings | {"pretrained": True}).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"model.weights=pretrained: timm cannot fetch the weights of {args['name']} ({reason}); "
            "without a network: model.weights=FILE with weights of your own"
        ) from None


def _settings(
    num_classes: int | None,
    name: str,
    in_channels: int,
    image_size: int | None,
    dropout: float,
    drop_path: float,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    import timm

    require(in_channels >= 1, "in_channels", in_channels, "a whole number >= 1")
    require(image_size is None or image_size >= 1, "image_size", image_size, "pixels >= 1")
    require(0 <= dropout < 1, "dropout", dropout, "a probability in [0, 1)")
    require(0 <= drop_path < 1, "drop_path", drop_path, "a probability in [0, 1)")
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=5) or ["resnet34", "vit_tiny_patch16_224"]
        raise ConfigError(
            f"model.args.name: timm {timm.__version__} has no model {name!r}; {did_you_mean(name, near)}; "
            "timm.list_models() lists all"
        )
    settings: dict[str, Any] = {"in_chans": in_channels, **options}
    if num_classes is not None:
        settings["num_classes"] = num_classes
    if image_size is not None and _has_one_size(name):
        settings["img_size"] = image_size
    # Not every network has these, so they are named only where they say something.
    settings |= {k: v for k, v in (("drop_rate", dropout), ("drop_path_rate", drop_path)) if v > 0}
    return settings


def _create(name: str, settings: Mapping[str, Any]) -> nn.Module:
    import timm

    try:
        return timm.create_model(name, **settings)
    except (TypeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        given = ", ".join(f"{key}={value}" for key, value in settings.items())
        raise ConfigError(f"model.args: timm cannot build {name} with {given}: {reason}") from None


def _has_one_size(name: str) -> bool:
    import timm

    found = timm.get_pretrained_cfg(name)
    return bool(found is not None and found.fixed_input_size)


def _replace_activations(model: nn.Module, activation: Activation) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child).__name__ in ACTIVATIONS:
                setattr(module, name, make_activation(activation))


TIMM = Architecture(
    build=build,
    input_kind="image",
    head=("fc.", "head.", "classifier."),
    pretrained={"pretrained": pretrained, "efficientnet_lite0": efficientnet_lite0_tensors},
)
