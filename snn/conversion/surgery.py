"""Putting a module in place of another, behind it, before it, or behind a function call inside it.

What is added becomes a child of the module that it serves (``query.quantizer_out``), called from a hook. So
the names of everything else stay as they were: weights load, rules keep matching, and ``query`` is still a
Linear for whoever asks.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snn.errors import ConversionError

OUT, IN, CALLS = "quantizer_out", "quantizer_in", "quantizer_calls"


def place(name: str) -> str:
    """What a person calls the place of a quantiser or neuron: the module that it serves.

    Example:
        >>> place("self.quantizer_calls.softmax"), place("dense.quantizer_in"), place("query.quantizer_out")
        ('self.softmax()', 'dense (input)', 'query')
    """
    name = name.removesuffix(f".{OUT}")
    if name.endswith(f".{IN}"):
        return name.removesuffix(f".{IN}") + " (input)"
    head, calls, function = name.rpartition(f".{CALLS}.")
    return f"{head}.{function}()" if calls else name


def replace(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` where ``name`` was, under every name that the old module has."""
    old = model.get_submodule(name)
    for parent in list(model.modules()):
        for leaf in [leaf for leaf, child in parent._modules.items() if child is old]:
            setattr(parent, leaf, new)


def append(module: nn.Module, name: str, new: nn.Module) -> None:
    """Apply ``new`` to the output of ``module``; of a tuple, to its first element."""
    _add_child(module, name, OUT, new)
    if not isinstance(module, nn.Sequential):
        module.register_forward_hook(_apply_to_output)


def prepend(module: nn.Module, name: str, new: nn.Module) -> None:
    """Apply ``new`` to the first positional input of ``module``."""
    if isinstance(module, nn.Sequential):
        raise ConversionError(f"{name} is a Sequential: prepend to its first module instead")
    _add_child(module, name, IN, new)
    module.register_forward_pre_hook(_apply_to_input)


def append_to_call(module: nn.Module, name: str, function: str, new: nn.Module) -> None:
    """Apply ``new`` to what each call of ``function`` (by its name) returns during the forward of ``module``."""
    if CALLS not in module._modules:
        module.add_module(CALLS, nn.ModuleDict())
        module.forward = types.MethodType(_forward_with_calls, module)
    calls = module.get_submodule(CALLS)
    assert isinstance(calls, nn.ModuleDict)
    if function in calls:
        raise ConversionError(f"two rules append to call {function!r} of {name}")
    calls[function] = new


def _add_child(module: nn.Module, name: str, child: str, new: nn.Module) -> None:
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        raise ConversionError(
            f"{name} is a {type(module).__name__}, which is never called: match what is inside it"
        )
    if child in module._modules:
        raise ConversionError(f"{name} already has a {child}")
    module.add_module(child, new)


def _apply_to_output(module: nn.Module, _args: Any, output: Any) -> Any:
    quantizer = module._modules[OUT]
    assert quantizer is not None
    first = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(first, Tensor):
        raise ConversionError(
            f"{type(module).__name__} returns a {type(first).__name__}, no tensor: match a module inside it"
        )
    if isinstance(output, tuple):
        return (quantizer(output[0]), *output[1:])
    return quantizer(output)


def _apply_to_input(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if not args or not isinstance(args[0], Tensor):
        raise ConversionError(
            f"{type(module).__name__} takes no tensor as its first argument: nothing to prepend to"
        )
    quantizer = module._modules[IN]
    assert quantizer is not None
    return (quantizer(args[0]), *args[1:])


class _CallMode(TorchFunctionMode):
    def __init__(self, calls: nn.ModuleDict):
        super().__init__()
        self.calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(getattr(func, "__name__", ""))
        if name in self.calls and isinstance(result, torch.Tensor):
            return self.calls[name](result)
        return result


def _forward_with_calls(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    calls = self.get_submodule(CALLS)
    assert isinstance(calls, nn.ModuleDict)
    with _CallMode(calls):
        return type(self).forward(self, *args, **kwargs)
