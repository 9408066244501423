"""Convolutions that must not see the values of a pixel side by side in memory."""

from __future__ import annotations

from torch import Tensor, nn

#: Channels that oneDNN computes at once on CPUs with AVX2 and nothing wider.
_VECTOR = 8


def guard_narrow_convolutions(model: nn.Module) -> list[str]:
    """Bring the input of some convolutions to the ordinary memory format; return their names.

    On CPUs with AVX2 and no AVX-512 the gradient of a strided convolution of one pixel with less than eight input
    channels writes beyond its memory in the other format (torch 2.14 with its oneDNN; wider ones are right). Only
    networks made small for a try have any. Such a network as a whole is to stay in the ordinary format, on every
    machine, so that figures are the same; the inputs too, since pictures of one channel count as either.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(4, 8, 1, stride=2), nn.Conv2d(8, 8, 1, stride=2))
        >>> guard_narrow_convolutions(model)
        ['0']
    """
    narrow = {name: module for name, module in model.named_modules() if _is_narrow(module)}
    for module in narrow.values():
        if _ordinary not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(_ordinary)
    return list(narrow)


def _is_narrow(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < _VECTOR
    )


def _ordinary(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in inputs)
