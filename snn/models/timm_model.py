"""Any network for pictures that timm knows, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from snn.errors import ConfigError, did_you_mean
from snn.models.activation import Activation, make_activation
from snn.models.architecture import Architecture
from snn.models.arguments import require
from snn.models.efficientnet_lite import efficientnet_lite0_tensors
from snn.models.pictures import PictureCheck
from snn.models.pooling import NoMaxPooling, Pool, average_pooling

#: Types that ``model.args.activation`` puts another in place of: activations, not the gates of squeeze-and-excitation.
ACTIVATIONS = re.compile("(Leaky|P|R|Squared|Star)?ReLU6?|.*(ELU|SiLU|[Ss]wish|Mish).*")


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
        ConfigError: timm knows no such network, or it does not take an option or pictures of this size, or has nothing
        that an activation or pooling could be put in place of.
    """
    model = _create(name, _settings(num_classes, name, in_channels, image_size, dropout, drop_path, options))
    if pool == "average":
        average_pooling(model)
    if activation is not None:
        _replace_activations(model, name, activation)
    if image_size is not None or pool == "average":
        _try(model, name, in_channels, image_size, pool)
    size = image_size if _has_one_size(name) else None
    model.register_forward_pre_hook(PictureCheck(in_channels, size), with_kwargs=True)
    return model


def pretrained(args: Mapping[str, Any], cache_dir: Any = None) -> dict[str, Tensor]:
    """The weights that timm has for a name, fetched by timm itself, for these channels and this size.

    Raises:
        ConfigError: There are none, or no network to fetch them.
    """
    import timm

    known = ("name", "in_channels", "image_size", "options")
    settings = _settings(None, **{key: args[key] for key in known}, dropout=0.0, drop_path=0.0)
    try:
        return timm.create_model(args["name"], pretrained=True, **settings).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        reason = _first_line(error)
        raise ConfigError(
            f"model.weights=pretrained: timm cannot fetch the weights of {args['name']} ({reason}); "
            "without a network: model.weights=FILE with weights of your own"
        ) from None


def pictures(args: Mapping[str, Any]) -> dict[str, Any]:
    """How the pictures of timm's weights for a name were prepared, as keys of ``dataset``."""
    import timm

    found = timm.get_pretrained_cfg(args["name"])
    if found is None or args["in_channels"] != len(found.mean):
        return {}
    size = found.input_size[-1]
    return {
        "mean": list(found.mean),
        "std": list(found.std),
        "interpolation": found.interpolation,
        "image_size": size,
        "resize": None if found.crop_pct == 1 else int(size / found.crop_pct),
    }


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
    if "." in name and name not in (tagged := timm.list_pretrained(f"{name.partition('.')[0]}.*")):
        near = get_close_matches(name, tagged, n=5)
        raise ConfigError(
            f"model.args.name: timm has no weights {name!r}; {did_you_mean(name, near or tagged[:5])}"
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
    except Exception as error:  # whatever timm makes of arguments that do not suit
        unknown = [
            key for key, value in settings.items() if isinstance(error, KeyError) and value in error.args
        ]
        if unknown:
            raise ConfigError(
                f"model.args.options.{unknown[0]}: timm knows no {settings[unknown[0]]!r}"
            ) from None
        given = ", ".join(f"{key}={value}" for key, value in settings.items())
        raise ConfigError(
            f"model.args: timm cannot build {name} with {given}: {_first_line(error)}"
        ) from None


@torch.no_grad()
def _try(model: nn.Module, name: str, channels: int, size: int | None, pool: Pool | None) -> None:
    """Show the network one picture, so that what it cannot take is refused before any work."""
    about: Any = model.default_cfg
    usual = about["input_size"][-1]
    shown = usual if size is None else size
    picture = torch.zeros(1, channels, shown, shown, device=next(model.parameters()).device)
    model.eval()
    try:
        with NoMaxPooling() if pool == "average" else nullcontext():
            model(picture)
    except ConfigError:
        raise
    except Exception as error:  # whatever a library's network makes of a map that has become too small
        raise ConfigError(
            f"model.args.image_size={shown}: {name} cannot take pictures of {shown} x {shown} pixels "
            f"({_first_line(error)}); dataset.image_size={usual} is what timm has it for"
        ) from None
    finally:
        model.train()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _has_one_size(name: str) -> bool:
    import timm

    found = timm.get_pretrained_cfg(name)
    return bool(found is not None and found.fixed_input_size)


def _replace_activations(model: nn.Module, name: str, activation: Activation) -> None:
    found = [
        (module, key)
        for module in model.modules()
        for key, child in module.named_children()
        if ACTIVATIONS.fullmatch(type(child).__name__)
    ]
    if not found:
        raise ConfigError(
            f"model.args.activation={activation}: {name} has no activation module to put it in place of"
        )
    for module, key in found:
        setattr(module, key, make_activation(activation))


TIMM = Architecture(
    build=build,
    input_kind="image",
    head=("fc.", "head.", "classifier."),
    pretrained={"pretrained": pretrained, "efficientnet_lite0": efficientnet_lite0_tensors},
    pictures=pictures,
)
