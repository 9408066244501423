"""Check ``model.args`` against the signature of the function that builds the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from snn.errors import ConfigError, did_you_mean
from snn.registry import accepted


def complete_arguments(
    name: str,
    build: Callable[..., Any],
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    num_classes: int,
) -> dict[str, Any]:
    """Every argument of ``build`` as plain YAML types: as given, else from ``defaults``, else its own.

    Args:
        name: The model's name, for messages.
        build: The function or class to be called.
        given: The user's ``model.args``; None stands for «not given».
        defaults: What the weights say.
        num_classes: The one argument that every model has.

    Raises:
        ConfigError: An unknown name, a value of the wrong type, or a required argument that is missing.
    """
    check_names(name, build, given)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ConfigError(f"model.num_classes: expected a whole number >= 1, got {num_classes!r}")

    parameters = inspect.signature(build).parameters
    try:
        hints = get_type_hints(build.__init__ if inspect.isclass(build) else build)
    except NameError:  # a model of the user's own that imports for annotations only: its types go unchecked
        hints = {}
    args: dict[str, Any] = {"num_classes": num_classes}
    for key in _names(build):
        value = given.get(key)
        value = defaults.get(key) if value is None else value
        if value is not None:
            value = _plain(f"model.args.{key}", value)
            _check_type(f"model.args.{key}", value, hints.get(key, Any))
        elif parameters[key].default is inspect.Parameter.empty:
            raise ConfigError(f"model.args.{key}: model={name} needs a value")
        else:
            value = _plain(f"model.args.{key}", parameters[key].default)
        args[key] = value
    return args


def check_names(name: str, build: Callable[..., Any], given: Iterable[str]) -> None:
    """Refuse arguments that ``build`` does not take.

    Raises:
        ConfigError: An unknown name; the message suggests the nearest.
    """
    known = _names(build)
    for key in given:
        if key not in known:
            raise ConfigError(
                f"model.args.{key}: model={name} has no such argument; {did_you_mean(key, known)}"
            )


def require(holds: bool, key: str, value: Any, expected: str) -> None:
    """Raise a ConfigError for ``model.args.<key>`` unless ``holds``.

    Example:
        >>> require(0 <= 1.5 < 1, "dropout", 1.5, "a probability in [0, 1)")
        Traceback (most recent call last):
        snn.errors.ConfigError: model.args.dropout: expected a probability in [0, 1), got 1.5
    """
    if not holds:
        raise ConfigError(f"model.args.{key}: expected {expected}, got {value!r}")


def require_positive(**values: float) -> None:
    """:func:`require` numbers greater than zero, by the names of their arguments."""
    for key, value in values.items():
        require(value > 0, key, value, "a number > 0")


def _names(build: Callable[..., Any]) -> list[str]:
    return [key for key in accepted(build) if key != "num_classes"]


def _plain(key: str, value: Any) -> Any:
    """The value as YAML would hold it, so that a checkpoint needs no class to be read."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(f"{key}.{k}", v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(f"{key}[{i}]", v) for i, v in enumerate(value)]
    raise ConfigError(
        f"{key}: expected a number, a text or a list of them, got {type(value).__name__} {value!r}"
    )


def _check_type(key: str, value: Any, hint: Any) -> None:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        hint = next(choice for choice in inner if choice is not type(None))
        _check_type(key, value, hint)
    elif origin is Literal:
        if value not in inner:
            raise ConfigError(f"{key}: unknown choice {value!r}; {did_you_mean(str(value), inner)}")
    elif origin in (list, Sequence):
        if not isinstance(value, list):
            raise ConfigError(f"{key}: expected a list, got {value!r}")
        for i, item in enumerate(value):
            _check_type(f"{key}[{i}]", item, inner[0])
    elif hint in _NAMES:
        number_as_float = hint is float and type(value) is int
        if type(value) is not hint and not number_as_float:
            raise ConfigError(f"{key}: expected {_NAMES[hint]}, got {value!r}")


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
