"""Where an activation has its channels, when its own class does not say: where the layer that feeds it has them.

Axis 1 is right for what a convolution feeds, and wrong for the GELU of a network that keeps its pictures as
``[B, H, W, C]``. Which of the two it is shows when the network runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from snn.errors import ConversionError
from snn.quantizers.base import Quantizer

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding)


def channels_last(module: nn.Module) -> bool:
    """Whether the class of a layer says that its output has its channels on the last axis."""
    # A LayerNorm2d is a LayerNorm to isinstance, but moves the channels of [B, C, H, W] there and back itself.
    return isinstance(module, _CHANNELS_LAST) and not type(module).__name__.endswith("2d")


@contextmanager
def locating_channels(model: nn.Module, quantizers: Mapping[str, Quantizer]) -> Iterator[None]:
    """While open, a quantiser without ``axis`` gets -1 if it is fed in four axes by a layer with its channels last.

    It is fed by a layer if that is the latest one with parameters to run, and their shapes are the same: nothing
    was transposed or split into heads in between. After an exception every axis is what it was.

    Args:
        model: The quantised network; run it inside.
        quantizers: Those of it that are meant.

    Raises:
        ConversionError: From the run, where all three axes are equally long, so that a transposition would not
            show.
    """
    asking = {name: quantizer for name, quantizer in quantizers.items() if quantizer.axis is None}
    latest: list[tuple[nn.Module, Any]] = []

    def ran(layer: nn.Module, _inputs: Any, output: Any) -> None:
        latest[:] = [(layer, output.shape if isinstance(output, Tensor) else None)]

    def asked(name: str) -> Any:
        def locate(quantizer: Quantizer, inputs: tuple[Tensor]) -> None:
            x = inputs[0]
            if quantizer.axis is not None or x.dim() != 4 or not latest:
                return
            layer, shape = latest[0]
            if x.shape != shape or not channels_last(layer):
                return
            if x.shape[1] == x.shape[2] == x.shape[3]:
                raise ConversionError(
                    f"{name}: cannot tell where the channels of {tuple(x.shape)} are; say it in the rule: "
                    "axis: -1 or axis: 1"
                )
            quantizer.axis = -1

        return locate

    handles = [module.register_forward_hook(ran) for module in _layers(model.modules())]
    handles += [q.register_forward_pre_hook(asked(name)) for name, q in asking.items()]
    try:
        yield
    except BaseException:
        for quantizer in asking.values():
            quantizer.axis = None
        raise
    finally:
        for handle in handles:
            handle.remove()


def _layers(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return [
        m
        for m in modules
        if not isinstance(m, Quantizer) and next(m.parameters(recurse=False), None) is not None
    ]
