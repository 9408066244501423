"""The plan: what every module becomes, and by which rule, before anything is touched.

With an example batch it says as well what a forward shows: which quantisers are fed, which products take
spikes, and what is computed densely at every step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from snn.conversion.channels import channels_last
from snn.conversion.function_calls import canonical_name, known_function
from snn.conversion.placement import placed
from snn.conversion.plan_table import PlanTable
from snn.conversion.rules import Rule, check_options, parse_rules, unmatched
from snn.conversion.surgery import address, insert
from snn.conversion.trace import Trace, trace
from snn.errors import ConfigError, ConversionError
from snn.quantizers.base import Quantizer


@dataclass(frozen=True)
class Step:
    """What happens to one module, or to one call inside it.

    Args:
        name: Dotted name of the module; empty: the model itself.
        kind: Its class.
        rule: Index of the rule that matched; ``None``: no rule did.
        do: The verb, or ``none``.
        call: Function inside the module's forward, if the rule is about one.
        options: Arguments of the quantiser.
        parameters: Numbers that the module itself holds, its children's apart.
    """

    name: str
    kind: str
    rule: int | None
    do: str
    call: str | None = None
    options: Mapping[str, Any] | None = None
    parameters: int = 0

    @property
    def acts(self) -> bool:
        return self.do in ("replace", "append", "prepend")

    @property
    def address(self) -> str:
        """Dotted name of the quantiser, once it is inserted."""
        return address(self.name, self.do, self.call)

    def around(self, other: Step) -> bool:
        """Whether this is about calls of the same function in the same module, or in one that holds it."""
        if self.call is None or other.call is None:
            return False
        same = self.call.partition("#")[0] == other.call.partition("#")[0]
        return same and (not self.name or f"{other.name}.".startswith(f"{self.name}."))


@dataclass(frozen=True)
class Plan:
    """Every module of a model in order, with what becomes of it; ``print(plan)`` shows a table.

    Args:
        steps: One for each module, and one for each call that a rule is about.
        rules: The rules.
        trace: What one forward of the quantised network does, if one was watched.
    """

    steps: tuple[Step, ...]
    rules: tuple[Rule, ...]
    trace: Trace | None = None

    @property
    def actions(self) -> list[Step]:
        """Steps that put a quantiser somewhere."""
        return [s for s in self.steps if s.acts]

    @property
    def surgery(self) -> list[Step]:
        """Steps that change the model: the actions, and calls kept from a rule of a module around them."""
        return [
            s
            for s in self.steps
            if s.acts or (s.do == "keep" and s.call and any(a.around(s) for a in self.actions))
        ]

    def completed(self, model: nn.Module) -> Plan:
        """The same plan with a step for every module of the float ``model``; a checkpoint keeps only some."""
        known: dict[str, list[Step]] = {}
        present = dict(model.named_modules())
        for step in self.steps:
            if step.name not in present:
                raise ConversionError(f"the plan names {step.name}, which the model does not have")
            known.setdefault(step.name, []).append(step)
        steps, counted = [], set()
        for name, module in present.items():
            own = {id(p): p.numel() for p in module.parameters(recurse=False) if id(p) not in counted}
            counted |= set(own)
            found = known.get(name, [])
            if not any(s.call is None for s in found) and (name or own):
                found = [Step(name, type(module).__name__, None, "none"), *found]
            holder = next((s for s in found if s.call is None), None)
            steps += [replace(s, parameters=sum(own.values())) if s is holder else s for s in found]
        return Plan(tuple(steps), self.rules, self.trace)

    def table(self) -> PlanTable:
        """The plan as rows, for the terminal, for Markdown and for trackers."""
        return PlanTable(self.steps, self.trace)

    def to_markdown(self) -> str:
        return self.table().to_markdown()

    def __str__(self) -> str:
        return self.table().to_text()


def plan(
    model: nn.Module,
    rules: Iterable[Mapping[str, Any] | Rule],
    defaults: Mapping[str, Any] | None = None,
    where: str = "quantization.rules",
    example: Mapping[str, Tensor] | None = None,
) -> Plan:
    """Match every module of ``model`` against ``rules``.

    Args:
        model: Any network without quantisers; it is not changed.
        rules: Ordered rules; see :class:`snn.conversion.rules.Rule`.
        defaults: The quantiser's ``name`` and arguments where a rule does not say; QCFS with 8 levels if not
            given.
        where: Config key for error messages.
        example: A batch; one row of it goes through a quantised copy, to see what a forward does. Without it the
            plan knows of modules only, and rules must say which (``match`` or ``type``).

    Raises:
        ConfigError: A rule is malformed, matches nothing, or is about a call that the forward does not make.
        ConversionError: Nothing at all would be quantised, one module would be quantised inside another that is
            replaced, or the model has quantisers already.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
        >>> made = plan(model, [{"type": "GELU", "signed": True}], example={"input": torch.ones(1, 4)})
        >>> [(d.module, d.op, d.quantized) for d in made.trace.dense]
        [('1', 'gelu', True)]
    """
    _refuse_quantised(model, where)
    parsed = placed(model, _with_canonical_calls(parse_rules(rules, where), where), example, where)
    base = {"name": "qcfs", "levels": 8, **(defaults or {})}
    check_options({k: v for k, v in base.items() if k != "name"}, base["name"], "quantization")
    for index, rule in enumerate(parsed):
        check_options(rule.options, rule.by or base["name"], f"{where}[{index}]")
    steps: list[Step] = []
    used: set[int] = set()
    fitting: set[int] = set()
    for name, module in model.named_modules():
        # What is decided already: the module's input, its output, and calls inside it.
        decided: set[str] = set()
        for index, rule in enumerate(parsed):
            # The model itself cannot be replaced; calls in its own forward can be reached.
            if not (name or rule.call) or not rule.fits(name, module):
                continue
            fitting.add(index)
            if not rule.places & decided:
                used.add(index)
                decided |= rule.places
                steps.append(_step(name, module, index, rule, base))
    unmatched(parsed, used, fitting, [name for name, _ in model.named_modules() if name], where)
    result = Plan(tuple(steps), tuple(parsed)).completed(model)
    _refuse_nonsense(result, where)
    if example is None:
        return result
    quantised = copy.deepcopy(model)
    insert(quantised, result)
    return traced_plan(quantised, example, where)


def traced_plan(model: nn.Module, example: Mapping[str, Tensor], where: str = "quantization.rules") -> Plan:
    """The plan of a quantised network, and what one forward of it does.

    Args:
        model: A quantised network, calibrated or not; it is left as it was.
        example: A batch, of which one row is run.
        where: Config key for error messages.

    Raises:
        ConfigError: A rule is about a call that the forward does not make anywhere.
    """
    made = getattr(model, "plan", None)
    if not isinstance(made, Plan):
        made = Plan((), ()).completed(model)
    seen = trace(model, example)
    _refuse_uncalled(made, seen, where)
    return replace(made, trace=seen)


def _with_canonical_calls(rules: list[Rule], where: str) -> list[Rule]:
    named = [replace(r, call=canonical_name(r.call)) if r.call else r for r in rules]
    for index, (rule, asked) in enumerate(zip(named, rules)):
        if rule.call and not known_function(rule.call):
            raise ConfigError(
                f"{where}[{index}].call: {asked.call!r} is no function of torch; such as softmax, gelu, or "
                "relu#1 for the second relu of a forward"
            )
    return named


def _step(name: str, module: nn.Module, index: int, rule: Rule, base: Mapping[str, Any]) -> Step:
    options = None
    if rule.do != "keep":
        options = {**base, **({"name": rule.by} if rule.by else {}), **rule.options}
        if "axis" not in options and rule.call is None and channels_last(module):
            options["axis"] = -1
    return Step(name, type(module).__name__, index, rule.do, rule.call, options)


def _refuse_quantised(model: nn.Module, where: str) -> None:
    for name, module in model.named_modules():
        if isinstance(module, Quantizer):
            raise ConversionError(
                f"{where}: the model has quantisers already (first: {name}); plan and quantise the float network, "
                "with all rules in one list"
            )


def _refuse_nonsense(result: Plan, where: str) -> None:
    if not result.actions:
        raise ConversionError(f"{where}: no rule quantises anything, so there would be nothing to spike")
    replaced = {s.name for s in result.actions if s.do == "replace" and s.call is None}
    for step in result.actions:
        inside = [r for r in replaced if step.name.startswith(r + ".")]
        if inside or (step.call is not None and step.name in replaced):
            raise ConfigError(
                f"{where}[{step.rule}]: {step.name} lies inside {(inside or [step.name])[0]}, "
                "which is replaced as a whole"
            )


def _refuse_uncalled(made: Plan, seen: Trace, where: str) -> None:
    """A rule about a call that no forward makes would leave its quantisers without data."""
    for index, rule in enumerate(made.rules):
        steps = [s for s in made.actions if s.rule == index and s.call]
        if not steps or rule.optional or any(s.address in seen.calls for s in steps):
            continue
        place = steps[0].name or "the model itself"
        inside = [d for d in seen.dense if not steps[0].name or f"{d.module}.".startswith(f"{place}.")]
        called = ", ".join(sorted({d.call for d in inside})) or "none"
        raise ConfigError(
            f'{where}[{index}]: "{rule}": {rule.call} is never called in {place}; non-linear calls there: {called}'
        )
