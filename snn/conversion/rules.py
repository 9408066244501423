"""Rules: which module, by name or type, or which call inside one, gets what.

An ordered list; the first rule that matches a module wins. Rules about calls inside a module (``call:``) are
a list of their own in this respect: they add to whatever happens to the module.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from snn.errors import ConfigError, did_you_mean
from snn.quantizers.registry import QUANTIZERS
from snn.registry import accepted

VERBS = ("replace", "append", "prepend", "keep")


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        match: Exact dotted name, or a regex behind ``re:`` that must match the whole name; ``None``: any
            name.
        type: Class name of the module, such as ``ReLU``; ``None``: any type.
        call: Name of a function called in the module's forward, such as ``softmax``, whose result is meant.
        do: ``replace`` the module, ``append`` to its output, ``prepend`` to its input, or ``keep`` it as it
            is.
        by: Registered quantiser; ``None``: the one of the config.
        optional: Whether it is fine that nothing matches.
        options: Arguments of the quantiser that differ from the config's (``signed``, ``levels``, ``axis``,
            ...).
    """

    match: str | None = None
    type: str | None = None
    call: str | None = None
    do: str = "append"
    by: str | None = None
    optional: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, name: str, module: nn.Module) -> bool:
        if self.type is not None and type(module).__name__ != self.type:
            return False
        if self.match is None:
            return True
        if self.match.startswith("re:"):
            return re.fullmatch(self.match[3:], name) is not None
        return name == self.match

    def __str__(self) -> str:
        parts = [
            self.match,
            f"type={self.type}" if self.type else None,
            f"call={self.call}" if self.call else None,
        ]
        return " ".join(p for p in parts if p)


def parse_rules(rules: Iterable[Mapping[str, Any] | Rule], where: str = "quantization.rules") -> list[Rule]:
    """Read rules as they stand in a config; keys that are no field of a rule are arguments of the quantiser.

    Raises:
        ConfigError: An unknown verb, quantiser, argument or regex; the message names the rule by its index.
    """
    parsed = []
    known = {f.name for f in fields(Rule)} - {"options"}
    for index, rule in enumerate(rules):
        if isinstance(rule, Rule):
            parsed.append(rule)
            continue
        place = f"{where}[{index}]"
        if not isinstance(rule, Mapping):
            raise ConfigError(
                f"{place}: a rule is a mapping such as {{match: classifier, do: keep}}; got {rule!r}"
            )
        options = {k: v for k, v in rule.items() if k not in known}
        parsed_rule = Rule(**{k: v for k, v in rule.items() if k in known}, options=options)
        _check(parsed_rule, place)
        parsed.append(parsed_rule)
    return parsed


def _check(rule: Rule, place: str) -> None:
    if rule.match is None and rule.type is None:
        raise ConfigError(f"{place}: a rule needs match: or type:")
    if rule.do not in VERBS:
        raise ConfigError(f"{place}.do: unknown verb {rule.do!r}; {did_you_mean(str(rule.do), VERBS)}")
    if rule.call is not None and rule.do not in ("append", "keep"):
        raise ConfigError(f"{place}: a call can only be appended to or kept; got do: {rule.do}")
    if rule.by is not None:
        if rule.by not in QUANTIZERS:
            raise ConfigError(
                f"{place}.by: unknown quantiser {rule.by!r}; {did_you_mean(rule.by, QUANTIZERS.names())}"
            )
        check_options(rule.options, rule.by, place)
    if rule.match is not None and rule.match.startswith("re:"):
        try:
            re.compile(rule.match[3:])
        except re.error as error:
            raise ConfigError(f"{place}.match: {rule.match!r} is no regex: {error}") from None


def check_options(options: Mapping[str, Any], by: str, place: str) -> None:
    """Refuse arguments that the quantiser called ``by`` does not take."""
    known = {
        name for cls in QUANTIZERS.get(by).__mro__[:-1] if "__init__" in vars(cls) for name in accepted(cls)
    }
    known -= {"arguments"}
    for name in options:
        if name not in known:
            raise ConfigError(f"{place}: {by} takes no argument {name!r}; {did_you_mean(str(name), known)}")


def unmatched(
    rules: Sequence[Rule], used: set[int], fitting: set[int], names: Sequence[str], where: str
) -> None:
    """Refuse rules that matched nothing.

    Args:
        rules: All rules.
        used: Indices of the rules that decided about some module.
        fitting: Indices of the rules that fit some module, even if an earlier one was first everywhere.
        names: Names of all modules.
        where: Config key.

    Raises:
        ConfigError: Names the rule and the module names that come nearest.
    """
    for index, rule in enumerate(rules):
        if index in used or rule.optional:
            continue
        if index in fitting:
            raise ConfigError(
                f'{where}[{index}]: "{rule}" matches only modules that earlier rules decide about'
            )
        wanted = re.sub(
            r"\\.|[\^$*+?()\[\]{}|]", lambda m: "." if m[0] == "\\." else "", (rule.match or rule.type or "")
        )
        near = difflib.get_close_matches(wanted.removeprefix("re:"), names, n=2, cutoff=0.3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ConfigError(f'{where}[{index}]: "{rule}" matches no module{hint}')
