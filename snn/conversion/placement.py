"""Rules that say «wherever this is called»: one forward of an example batch shows where that is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snn.conversion.attention import attention_in_calls
from snn.conversion.call import call_model, labels_removed
from snn.conversion.function_calls import canonical_name, function_name
from snn.conversion.rules import Rule
from snn.errors import ConfigError

#: Matches no name.
_NOWHERE = "re:(?!)"


def needs_example(rules: Sequence[Rule]) -> bool:
    """Whether some rule can only be placed by watching a forward."""
    return any(rule.unplaced for rule in rules)


def placed(
    model: nn.Module, rules: Sequence[Rule], example: Mapping[str, Any] | None, where: str
) -> list[Rule]:
    """The same rules, each with a ``match``, in the same order.

    Without an example, a rule about a call that names a type applies to every module of that type.

    A rule about a call gets the innermost modules whose own forward makes it; a rule with ``after`` the modules
    of its type that are the next to run. A module without children that a rule names anyway, such as a GELU, is
    left to that rule, whatever it calls inside.

    Args:
        model: A float network.
        rules: Rules as parsed.
        example: Model inputs.
        where: Config key for error messages.

    Raises:
        ConfigError: There is no example, or a rule that is not optional finds no place.
    """
    if not needs_example(rules):
        return list(rules)
    if example is None:
        for index, rule in enumerate(rules):
            if rule.unplaced and (rule.after or not rule.type):
                raise ConfigError(
                    f'{where}[{index}]: "{rule}" holds wherever that is called, which one forward has to show: '
                    "give example=BATCH, or say match:"
                )
        return list(rules)
    functions = {canonical_name(rule.call or str(rule.after)) for rule in rules if rule.unplaced}
    events = watched(model, example, functions)
    result = []
    for index, rule in enumerate(rules):
        if not rule.unplaced:
            result.append(rule)
            continue
        names = _after(rule, events) if rule.after else _calling(rule, rules, events)
        if not names and not rule.optional:
            called = sorted({event.function for event in events if event.function})
            of_type = f" of type {rule.type}" if rule.type else ""
            raise ConfigError(
                f"{where}[{index}]: no module{of_type} fits {rule.call or f'after: {rule.after}'!r}; "
                f"called are: {', '.join(called)}"
            )
        match = "re:" + "|".join(re.escape(name) for name in names) if names else _NOWHERE
        result.append(replace(rule, match=match, after=None))
    return result


@dataclass(frozen=True)
class Event:
    """A module that starts to run, or a function that it calls.

    Args:
        name: Dotted name of the module.
        module: The module.
        function: What is called; empty: the module starts.
    """

    name: str
    module: nn.Module
    function: str = ""


def _calling(rule: Rule, rules: Sequence[Rule], events: Sequence[Event]) -> list[str]:
    assert rule.call is not None
    function = rule.call.partition("#")[0]
    names = []
    for event in events:
        if event.function != function or not rule.fits(event.name, event.module):
            continue
        named = any(r.call is None and not r.after and r.fits(event.name, event.module) for r in rules)
        if named and not any(event.module.children()):
            continue
        names.append(event.name)
    return list(dict.fromkeys(names))


def _after(rule: Rule, events: Sequence[Event]) -> list[str]:
    function, of_type = canonical_name(str(rule.after)), replace(rule, match=None)
    names, waiting = [], False
    for event in events:
        if event.function == function:
            waiting = True
        elif waiting and not event.function and of_type.fits(event.name, event.module):
            waiting = False
            if rule.fits(event.name, event.module):
                names.append(event.name)
    return list(dict.fromkeys(names))


@torch.no_grad()
def watched(model: nn.Module, example: Mapping[str, Any], functions: set[str]) -> list[Event]:
    """What happens in one forward in evaluation mode, in order; the model is left as it was found.

    Args:
        model: A float network.
        example: Model inputs; ``labels`` are ignored.
        functions: Those that somebody asks for; for ``softmax``, fused attention is computed in separate calls.

    Example:
        >>> block = nn.Sequential(nn.Linear(2, 2), nn.Softmax(-1))
        >>> events = watched(block, {"x": torch.ones(1, 2)}, {"softmax"})
        >>> [event.name for event in events if event.function == "softmax"]
        ['1']
    """
    events: list[Event] = []
    running: list[tuple[str, nn.Module]] = []
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in labels_removed(example).items()}
    training = {module: module.training for module in model.modules()}
    for module in training:
        module.training = False
    try:
        with _following(model, running, events), _Calls(running, events), attention_in_calls(functions):
            call_model(model, inputs)
    finally:
        for module, mode in training.items():
            module.training = mode
    return events


class _Calls(TorchFunctionMode):
    def __init__(self, running: list[tuple[str, nn.Module]], events: list[Event]):
        super().__init__()
        self.running, self.events = running, events

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and self.running:
            self.events.append(Event(*self.running[-1], function_name(func)))
        return result


@contextmanager
def _following(model: nn.Module, running: list[tuple[str, nn.Module]], events: list[Event]) -> Iterator[None]:
    """Keep in ``running`` the modules whose forward is being computed, the innermost last."""
    handles = []
    for name, module in model.named_modules():

        def enter(module: nn.Module, _args: Any, name: str = name) -> None:
            running.append((name, module))
            events.append(Event(name, module))

        def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
            running.pop()

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
