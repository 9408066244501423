"""Putting a module in place of another, behind it, before it, or at a function call inside it.

What is added becomes a child of the module that it serves (``query.quantizer_out``), called from a hook. So
the names of everything else stay as they were: weights load, rules keep matching, and ``query`` is still a
Linear for whoever asks.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from snn.conversion.attention import attention_in_calls
from snn.conversion.function_calls import CallMode, ServedCalls, unseen
from snn.conversion.rules import check_options
from snn.errors import ConversionError
from snn.quantizers.registry import QUANTIZERS

if TYPE_CHECKING:
    from snn.conversion.plan import Plan

OUT, IN, CALLS = "quantizer_out", "quantizer_in", "quantizer_calls"


def place(name: str) -> str:
    """What a person calls the place of a quantiser or neuron: the module that it serves.

    Example:
        >>> place("self.quantizer_calls.softmax"), place("dense.quantizer_in"), place("query.quantizer_out")
        ('self.softmax()', 'dense (input)', 'query')
        >>> place("quantizer_calls.relu#1")
        'relu#1()'
    """
    name = name.removesuffix(f".{OUT}")
    if name.endswith(f".{IN}"):
        return name.removesuffix(f".{IN}") + " (input)"
    head, calls, function = f".{name}".rpartition(f".{CALLS}.")
    return f"{head}.{function}()".removeprefix(".") if calls else name


def address(name: str, do: str, call: str | None) -> str:
    """Dotted name of what was added for a verb on module ``name``, or on a call inside it.

    Example:
        >>> address("query", "append", None), address("act", "replace", None), address("", "replace", "relu")
        ('query.quantizer_out', 'act', 'quantizer_calls.relu')
    """
    if call is not None:
        return f"{name}.{CALLS}.{call}".removeprefix(".")
    return {"append": f"{name}.{OUT}", "prepend": f"{name}.{IN}", "replace": name}[do]


def insert(model: nn.Module, made: Plan) -> None:
    """Carry out a plan on ``model`` itself; it keeps the plan, with every module in it, in ``.plan``."""
    made = made.completed(model)
    for step in made.surgery:
        module = model.get_submodule(step.name)
        if step.do == "keep":
            assert step.call is not None
            serve_call(module, step.name, step.call, "keep")
            continue
        options = dict(step.options or {})
        name = options.pop("name")
        check_options(options, name, step.name)
        quantizer = QUANTIZERS.get(name)(**options).train(module.training)
        if step.call is not None:
            quantizer.over_keys = step.call.partition("#")[0] == "softmax"
            serve_call(module, step.name, step.call, step.do, quantizer)
        elif step.do == "append":
            append(module, step.name, quantizer)
        elif step.do == "prepend":
            prepend(module, step.name, quantizer)
        else:
            replace(model, step.name, quantizer)
    model.plan = made  # type: ignore[assignment]


def replace(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` where ``name`` was, under every name that the old module has."""
    old = model.get_submodule(name)
    for parent in list(model.modules()):
        for leaf in [leaf for leaf, child in parent._modules.items() if child is old]:
            setattr(parent, leaf, _own(new))


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


def serve_call(module: nn.Module, name: str, function: str, do: str, new: nn.Module | None = None) -> None:
    """Serve each call of ``function`` (by its canonical name) during the forward of ``module``.

    Args:
        module: Where the calls are.
        name: Its name, for messages.
        function: See :func:`snn.conversion.function_calls.canonical_name`.
        do: ``append``: ``new`` gets the result; ``replace``: ``new`` gets the first tensor that the function was
            given, and the function does not run; ``keep``: the call is left alone by modules around this one.
        new: A quantiser; ``None`` for ``keep``.
    """
    if CALLS not in module._modules:
        module.add_module(CALLS, ServedCalls().train(module.training))
        _run_inside(module, _call_mode)
    calls = module.get_submodule(CALLS)
    assert isinstance(calls, ServedCalls)
    if function in calls.verbs:
        raise ConversionError(f"two rules are about call {function!r} of {name or 'the model itself'}")
    calls.serve(function, do, _own(new) if new is not None else None)


def _own(new: nn.Module) -> nn.Module:
    """What ``new`` calls inside is its own business, whatever rules the modules around it have."""
    if "forward" not in vars(new):
        _run_inside(new, lambda _: unseen())
    return new


def _run_inside(module: nn.Module, context: Callable[[nn.Module], AbstractContextManager[Any]]) -> None:
    forward = type(module).forward

    @functools.wraps(forward)  # whoever asks for the signature gets the one of the class
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with context(self):
            return forward(self, *args, **kwargs)

    # Bound to the module, so that a deep copy runs itself and not the original.
    module.forward = types.MethodType(wrapped, module)


@contextmanager
def _call_mode(module: nn.Module) -> Iterator[None]:
    calls = module.get_submodule(CALLS)
    assert isinstance(calls, ServedCalls)
    with CallMode(calls), attention_in_calls(set(calls.verbs)):
        yield


def _add_child(module: nn.Module, name: str, child: str, new: nn.Module) -> None:
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        raise ConversionError(
            f"{name} is a {type(module).__name__}, which is never called: match what is inside it"
        )
    if child in module._modules:
        raise ConversionError(f"{name} already has a {child}")
    module.add_module(child, _own(new))


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
