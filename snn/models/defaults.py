"""One builder, several registered models: the same arguments with other defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from torch import nn


def with_defaults(build: type[nn.Module], **defaults: Any) -> Callable[..., nn.Module]:
    """A function that builds ``build``, whose signature shows other defaults.

    Args:
        build: A class of networks.
        defaults: Argument → default.

    Example:
        >>> from snn.models.resnet import ResNet
        >>> wide = with_defaults(ResNet, widths=[32, 64, 128])
        >>> inspect.signature(wide).parameters["widths"].default
        [32, 64, 128]
    """

    def made(**arguments: Any) -> nn.Module:
        return build(**(defaults | arguments))

    parameters = inspect.signature(build).parameters.values()
    made.__annotations__ = get_type_hints(build.__init__)
    made.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=p.KEYWORD_ONLY, default=defaults.get(p.name, p.default)) for p in parameters]
    )
    return made
