"""Function calls inside a module's forward: one name per function, however it is written, and what serves it.

``F.relu(x)``, ``torch.relu(x)``, ``x.relu_()`` and an ``nn.ReLU()`` made on the spot are all ``relu``. A second
call of the same function within one forward of the module may be named by itself: ``relu#1``.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from snn.errors import ConversionError

#: Functions that torch has under two names.
_SYNONYMS = {"expit": "sigmoid", "clip": "clamp", "absolute": "abs", "multiply": "mul", "divide": "div"}
_depth: ContextVar[int] = ContextVar("depth", default=0)


def canonical_name(name: str) -> str:
    """The one name of a function, in-place forms and methods included.

    Example:
        >>> [canonical_name(x) for x in ("F.relu", "torch.relu_", "special_softmax", "relu#1")]
        ['relu', 'relu', 'softmax', 'relu#1']
    """
    function, number, which = name.rpartition(".")[2].partition("#")
    function = function.strip("_").removeprefix("special_")
    return _SYNONYMS.get(function, function) + number + which


def function_name(function: Any) -> str:
    """:func:`canonical_name` of something that torch calls."""
    return canonical_name(str(getattr(function, "__name__", "")))


def known_function(name: str) -> bool:
    """Whether torch has a function, or its tensors a method, of this canonical name.

    Example:
        >>> known_function("softmax"), known_function("relu#1"), known_function("sofmax"), known_function("relu#x")
        (True, True, False, False)
    """
    function, number, which = name.partition("#")
    if number and not which.isdecimal():
        return False
    return any(hasattr(home, function) for home in (nn.functional, torch, Tensor))


@contextmanager
def unseen() -> Iterator[None]:
    """What is called inside escapes the modes that are in force: a quantiser's work, a call that is served already.

    Modes that come into force inside do see it: an observer of a neuron may run another network.
    """
    token = _depth.set(_depth.get() + 1)
    try:
        yield
    finally:
        _depth.reset(token)


class ServedCalls(nn.ModuleDict):
    """What serves the calls inside one module, by the name of the function.

    Attributes:
        verbs: ``append``, ``replace`` or ``keep`` for each name; what is kept has no quantiser.
    """

    def __init__(self) -> None:
        super().__init__()
        self.verbs: dict[str, str] = {}

    def serve(self, name: str, do: str, quantizer: nn.Module | None) -> None:
        """Serve ``name`` from now on."""
        self.verbs[name] = do
        if quantizer is not None:
            self[name] = quantizer


class CallMode(TorchFunctionMode):
    """In force during one forward of a module: hands its calls to what serves them.

    The modes of modules around this one see a call after it, and only if it is not served here: a call belongs
    to the innermost module that has a rule for it.

    Args:
        calls: What serves the calls.
    """

    def __init__(self, calls: ServedCalls):
        super().__init__()
        self.calls = calls
        self._functions = {name.partition("#")[0] for name in calls.verbs}
        self._seen: Counter[str] = Counter()
        self._born = _depth.get()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        if name not in self._functions or _depth.get() > self._born:
            return func(*args, **kwargs)
        numbered = f"{name}#{self._seen[name]}"
        self._seen[name] += 1
        key = numbered if numbered in self.calls.verbs else name
        if key not in self.calls.verbs:
            return func(*args, **kwargs)
        with unseen():
            return self._serve(key, func, args, kwargs)

    def _serve(self, key: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        verb = self.calls.verbs[key]
        if verb == "keep":
            return func(*args, **kwargs)
        target = _overwritten(func, args, kwargs)
        result = _first_tensor(args, kwargs) if verb == "replace" else func(*args, **kwargs)
        if not isinstance(result, Tensor):
            raise ConversionError(
                f"call: {key} returns a {type(result).__name__}, no tensor: nothing to quantise"
            )
        if target is None:
            return self.calls[key](result)
        # The caller may go on with the tensor that it handed in.
        return target.copy_(self.calls[key](result.clone()))


def _overwritten(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The tensor that a call writes its result into, if it does."""
    if kwargs.get("out") is not None:
        return kwargs["out"]
    name = str(getattr(func, "__name__", ""))
    in_place = name.endswith("_") and not name.startswith("__")
    if not in_place and inspect.isfunction(func):
        in_place = bool(inspect.signature(func).bind(*args, **kwargs).arguments.get("inplace"))
    return _first_tensor(args, kwargs) if in_place else None


def _first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    return next((leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)), None)
