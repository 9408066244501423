"""Rules: which module, by name or type, or which call inside one, gets what.

An ordered list; of the rules that fit a place, the first one wins. Places are the input of a module, its output,
and each call inside it: so rules about them add up. ``replace`` and ``keep`` decide about input and output together.
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
        type: Class name of the module, such as ``ReLU``, or a list of them, or a regex behind ``re:`` for the
            whole class name; ``None``: any type.
        call: Name of a function called in the module's forward, such as ``softmax``, whose result is meant.
            Without ``match``: in whichever module makes the call, which an example batch shows.
        after: Name of a function: of the modules that fit, those that are the next to run after a call of it. The
            projection behind attention is the first ``Linear`` after ``softmax``.
        do: ``replace`` the module, ``append`` to its output, ``prepend`` to its input, or ``keep`` it as it
            is.
        by: Registered quantiser; ``None``: the one of the config.
        optional: Whether it is fine that nothing matches.
        options: Arguments of the quantiser that differ from the config's (``signed``, ``levels``, ``axis``,
            ...).
    """

    match: str | None = None
    type: str | Sequence[str] | None = None
    call: str | None = None
    after: str | None = None
    do: str = "append"
    by: str | None = None
    optional: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, name: str, module: nn.Module) -> bool:
        kind = type(module).__name__
        if self.type is not None and not any(_says(pattern, kind) for pattern in self.types):
            return False
        return self.match is None or _says(self.match, name)

    @property
    def types(self) -> tuple[str, ...]:
        if self.type is None:
            return ()
        return (self.type,) if isinstance(self.type, str) else tuple(self.type)

    @property
    def places(self) -> set[str]:
        """What the rule decides about, of a module that it fits: its input, its output, or a call inside it."""
        if self.call is not None:
            return {f"call {self.call}"}
        return {"append": {"output"}, "prepend": {"input"}}.get(self.do, {"input", "output"})

    @property
    def unplaced(self) -> bool:
        """Whether a forward is to show where the rule applies."""
        return self.after is not None or (self.call is not None and self.match is None)

    def __str__(self) -> str:
        parts = [
            self.match,
            f"type={'|'.join(self.types)}" if self.type else None,
            f"call={self.call}" if self.call else None,
            f"after={self.after}" if self.after else None,
        ]
        return " ".join(p for p in parts if p)


def _says(pattern: str, text: str) -> bool:
    """Whether a name is the pattern, or fits the regex behind ``re:`` as a whole."""
    if pattern.startswith("re:"):
        return re.fullmatch(pattern[3:], text) is not None
    return text == pattern


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
    if rule.match is None and rule.type is None and rule.call is None:
        raise ConfigError(f"{place}: a rule needs match:, type: or call:")
    if rule.after is not None and rule.call is not None:
        raise ConfigError(f"{place}: after: is about modules and call: about calls; give one of them")
    if rule.do not in VERBS:
        raise ConfigError(f"{place}.do: unknown verb {rule.do!r}; {did_you_mean(str(rule.do), VERBS)}")
    if rule.call is not None and rule.do == "prepend":
        raise ConfigError(f"{place}: a call can be appended to, replaced or kept; got do: {rule.do}")
    if rule.by is not None and rule.by not in QUANTIZERS:
        raise ConfigError(
            f"{place}.by: unknown quantiser {rule.by!r}; {did_you_mean(rule.by, QUANTIZERS.names())}"
        )
    for key, pattern in [("match", rule.match), *(("type", t) for t in rule.types)]:
        if pattern is not None and pattern.startswith("re:"):
            try:
                re.compile(pattern[3:])
            except re.error as error:
                raise ConfigError(f"{place}.{key}: {pattern!r} is no regex: {error}") from None


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
            r"\\.|[\^$*+?()\[\]{}|]",
            lambda m: "." if m[0] == "\\." else "",
            (rule.match or " ".join(rule.types)),
        )
        near = difflib.get_close_matches(wanted.removeprefix("re:"), names, n=2, cutoff=0.3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ConfigError(f'{where}[{index}]: "{rule}" matches no module{hint}')
