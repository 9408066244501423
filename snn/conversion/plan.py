"""The plan: what every module becomes, and by which rule, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from snn.conversion.rules import Rule, parse_rules, unmatched
from snn.errors import ConfigError, ConversionError

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding)


@dataclass(frozen=True)
class Step:
    """What happens to one module, or to one call inside it.

    Args:
        name: Dotted name of the module.
        kind: Its class.
        rule: Index of the rule that matched; ``None``: no rule did.
        do: The verb, or ``none``.
        call: Function inside the module's forward, if the rule is about one.
        options: Arguments of the quantiser.
    """

    name: str
    kind: str
    rule: int | None
    do: str
    call: str | None = None
    options: Mapping[str, Any] | None = None

    @property
    def acts(self) -> bool:
        return self.do in ("replace", "append", "prepend")


@dataclass(frozen=True)
class Plan:
    """Every module of a model in order, with what becomes of it; ``str(plan)`` is a table."""

    steps: tuple[Step, ...]
    rules: tuple[Rule, ...]

    @property
    def actions(self) -> list[Step]:
        return [s for s in self.steps if s.acts]

    def rows(self, everything: bool = False) -> list[list[str]]:
        """Rows ``module, type, rule, action``: modules that a rule touches and, on demand, all others."""
        rows = []
        for step in self.steps:
            if step.do == "none" and not everything:
                continue
            by = ""
            if step.acts:
                options = dict(step.options or {})
                sign = "signed" if options.get("signed") else "unsigned"
                by = f"{options.get('name')} ({sign}, {options.get('levels')} levels)"
            place = f"{step.name} ▸ {step.call}()" if step.call else step.name
            rule = "-" if step.rule is None else str(step.rule)
            rows.append([place, step.kind, rule, f"{step.do} {by}".strip()])
        return rows

    def __str__(self) -> str:
        rows = [["module", "type", "rule", "action"], *self.rows()]
        widths = [max(len(r[i]) for r in rows) for i in range(4)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths)).rstrip() for r in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        untouched = sum(s.do == "none" for s in self.steps)
        return "\n".join([*lines, f"{len(self.actions)} quantisers; {untouched} modules untouched"])


def plan(
    model: nn.Module,
    rules: Iterable[Mapping[str, Any] | Rule],
    defaults: Mapping[str, Any] | None = None,
    where: str = "quantization.rules",
) -> Plan:
    """Match every module of ``model`` against ``rules``.

    Args:
        model: Any network.
        rules: Ordered rules; see :class:`snn.conversion.rules.Rule`.
        defaults: The quantiser's ``name`` and arguments where a rule does not say; QCFS with 8 levels if not
            given.
        where: Config key for error messages.

    Raises:
        ConfigError: A rule is malformed or matches nothing.
        ConversionError: Nothing at all would be quantised, or one module would be quantised inside another
            that is replaced.
    """
    parsed = parse_rules(rules, where)
    base = {"name": "qcfs", "levels": 8, **(defaults or {})}
    steps: list[Step] = []
    used: set[int] = set()
    fitting: set[int] = set()
    names: list[str] = []
    for name, module in model.named_modules():
        if not name:
            continue
        names.append(name)
        # What is decided already: the module itself (None), and calls inside it.
        decided: set[str | None] = set()
        for index, rule in enumerate(parsed):
            if not rule.fits(name, module):
                continue
            fitting.add(index)
            if rule.call not in decided:
                used.add(index)
                decided.add(rule.call)
                steps.append(_step(name, module, index, rule, base))
        if not decided:
            steps.append(Step(name, type(module).__name__, None, "none"))
    unmatched(parsed, used, fitting, names, where)
    result = Plan(tuple(steps), tuple(parsed))
    _refuse_nonsense(result, where)
    return result


def _step(name: str, module: nn.Module, index: int, rule: Rule, base: Mapping[str, Any]) -> Step:
    options = None
    if rule.do != "keep":
        options = {**base, **({"name": rule.by} if rule.by else {}), **rule.options}
        if "axis" not in options and rule.call is None and _channels_last(module):
            options["axis"] = -1
    return Step(name, type(module).__name__, index, rule.do, rule.call, options)


def _channels_last(module: nn.Module) -> bool:
    # A LayerNorm2d is a LayerNorm to isinstance, but moves the channels of [B, C, H, W] there and back itself.
    return isinstance(module, _CHANNELS_LAST) and not type(module).__name__.endswith("2d")


def _refuse_nonsense(result: Plan, where: str) -> None:
    if not result.actions:
        raise ConversionError(f"{where}: no rule quantises anything, so there would be nothing to spike")
    replaced = {s.name for s in result.actions if s.do == "replace"}
    for step in result.actions:
        inside = [r for r in replaced if step.name.startswith(r + ".")]
        if inside:
            raise ConfigError(
                f"{where}[{step.rule}]: {step.name} lies inside {inside[0]}, which is replaced as a whole"
            )
