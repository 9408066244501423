"""The plan as something to look at: in the terminal, as Markdown, and as rows for trackers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snn.conversion.folding import fold
from snn.conversion.trace import KEPT, Trace
from snn.tracking.table import markdown_table

if TYPE_CHECKING:
    from snn.conversion.plan import Step

Cell = str | int | None
#: Columns of a terminal, and the least that names and types are cut to.
_WIDTH, _SHORTEST = 120, (30, 16)
_STACK = re.compile(r".*(\}|(?<=\.)\d+)(?=[. ]|$)")
_LEGEND = "One line stands for all layers in it, numbers are their sums; ± has negative codes as well."


@dataclass(frozen=True)
class Row:
    """One module, one call inside it, or one more product of it.

    Args:
        place: Dotted name; a call behind ``▸``.
        kind: Class of the module.
        rule: Index of its rule.
        action: What the rule does.
        input: What feeds it: ``spikes``, ``analog`` or ``input`` (the network's own); of a product both factors,
            unless one is a weight.
        macs: Multiply-accumulates per sample and step.
        parameters: Numbers that it holds.
    """

    place: str
    kind: str
    rule: int | None
    action: str
    input: str | None = None
    macs: int = 0
    parameters: int = 0


class PlanTable:
    """Steps of a plan, and what a forward shows of them.

    Args:
        steps: Of the plan, in order.
        trace: Of the quantised network; ``None``: the plan of modules alone.
    """

    def __init__(self, steps: Sequence[Step], trace: Trace | None = None):
        self.steps, self.trace = steps, trace
        self.rows = list(self._rows())
        self.columns = ["module", "type", "rule", "action", "parameters"]
        if trace is not None:
            self.columns[4:4] = ["input", "MACs"]

    def cells(self) -> list[list[Cell]]:
        """One line for each row, nothing folded; by :attr:`columns`."""
        return [self._cells(row.place, [row]) for row in self.rows]

    def to_text(self) -> str:
        """For the terminal: layers that are equal share a line, below the stack that they are in."""
        lines = aligned(
            self.columns, self._folded(), numbers=len(self.columns) - (1 if self.trace is None else 2)
        )
        parts = ["\n".join(lines), _LEGEND]
        if self.trace is not None and self.trace.dense:
            columns, rows = self.trace.dense_table(self._leaves())
            parts += [f"{KEPT}:", "\n".join(aligned(columns, rows, numbers=3)), *self.trace.hints()]
        verdict = [] if self.trace is None else [self.trace.verdict]
        return "\n\n".join([*parts, "\n".join([*self.totals(), *verdict])])

    def to_markdown(self) -> str:
        """For a report; layers that are equal share a line."""
        rows = [[f"`{row[0]}`", *row[1:]] for row in self._folded()]
        parts = [
            markdown_table(self.columns, rows),
            _LEGEND,
            "\n".join(f"- {line}" for line in self.totals()),
        ]
        if self.trace is not None:
            parts += ["## What is spikes, what is analog", self.trace.to_markdown(self._leaves())]
        return "\n\n".join(parts) + "\n"

    def totals(self) -> list[str]:
        """Sentences: quantisers, parameters, multiply-accumulates."""
        acting = {s.name for s in self.steps if s.acts}
        untouched = {s.name for s in self.steps if s.name} - acting
        number = sum(s.acts for s in self.steps)
        lines = [f"{number} quantisers; {len(untouched)} modules untouched"]
        total = sum(s.parameters for s in self.steps)
        if self.trace is None:
            return [*lines, f"{total:,} parameters"]
        analog = {p.module for p in self.trace.products if not p.spiking}
        multiplied = {p.module for p in self.trace.products}
        on_spikes = sum(r.parameters for r in self.rows if r.place in multiplied - analog)
        in_products = sum(r.parameters for r in self.rows if r.place in multiplied)
        lines.append(
            f"{total:,} parameters, {in_products:,} of them in modules with matrix products; "
            f"{_share(on_spikes, in_products)} of these take spikes alone"
        )
        spiking, given = self.trace.spiking_macs, self.trace.input_macs
        macs = spiking + self.trace.analog_macs
        shares = (
            f"{_share(spiking, macs)} take spikes alone, {_share(macs - spiking - given, macs)} analog values"
        )
        shares += f", {_share(given, macs)} the network's own input" if given else ""
        return [*lines, f"{macs:,} multiply-accumulates per sample and step; {shares}"]

    def _rows(self) -> Iterator[Row]:
        dense = {d.module for d in self.trace.dense} if self.trace else set()
        shown = set()
        for step in self.steps:
            place = step.name or step.kind
            if step.call is not None or step.name in shown:
                call = f" ▸ {step.call}()" if step.call is not None else ""
                yield Row(place + call, step.kind, step.rule, self._action(step))
                continue
            shown.add(step.name)
            products = self._products(place)
            if step.do == "none" and not step.parameters and not products and place not in dense:
                continue
            fed = self.trace.inputs.get(place) if self.trace else None
            first = products.pop(0) if products else (None if fed in ("weight", "constant") else fed, 0)
            yield Row(place, step.kind, step.rule, self._action(step), *first, step.parameters)
            for more in products:
                yield Row(place, step.kind, None, "", *more)

    def _products(self, place: str) -> list[tuple[str | None, int]]:
        found: dict[str | None, int] = {}
        for product in self.trace.products if self.trace else ():
            if product.module == place:
                found[product.factors] = found.get(product.factors, 0) + product.macs
        return list(found.items())

    def _action(self, step: Step) -> str:
        if not step.acts:
            return "" if step.do == "none" else step.do
        options = step.options or {}
        text = (
            f"{step.do} {options.get('name')} {'±' if options.get('signed') else ''}{options.get('levels')}"
        )
        if self.trace is None:
            return text
        calls = self.trace.calls.get(step.address, 0)
        return f"{text}, {calls} calls" if calls > 1 else text if calls else f"{step.do}: never called"

    def _leaves(self) -> set[str]:
        """Modules that hold no others: what happens in them can be had by a rule on the module."""
        holders = {s.name[:i] for s in self.steps for i, c in enumerate(s.name) if c == "."}
        return {s.name for s in self.steps if s.name} - holders

    def _folded(self) -> list[list[Cell]]:
        def key(row: Row) -> tuple[Cell, ...]:
            return row.kind, row.rule, row.action, row.input

        return [self._cells(name, rows) for name, rows in fold(self.rows, lambda r: r.place, key)]

    def _cells(self, place: str, rows: list[Row]) -> list[Cell]:
        first = rows[0]
        cells: list[Cell] = [place, first.kind, first.rule, first.action]
        if self.trace is not None:
            cells += [first.input, sum(r.macs for r in rows) or None]
        return [*cells, sum(r.parameters for r in rows) or None]


def compact(number: int) -> str:
    """Three digits and a unit.

    Example:
        >>> [compact(n) for n in (0, 9_999, 14_250, 21_233_664, 999_999_999)]
        ['0', '9,999', '14.2 k', '21.2 M', '1.00 G']
    """
    if number < 10_000:
        return f"{number:,}"
    power = next((p for p in (1, 2, 3) if number < 999.5 * 1000**p), 4)
    value = number / 1000**power
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {' kMGT'[power]}"


def _share(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.1%}"


def aligned(columns: Sequence[str], rows: Sequence[Sequence[Cell]], numbers: int) -> list[str]:
    """Lines of a table, columns from the index ``numbers`` on flush right; a stack of layers has a line of its own."""
    stacks: dict[str, list[Sequence[Cell]]] = {}
    for row in rows:
        stacks.setdefault(_stack_of(str(row[0])) or str(row[0]), []).append(row)
    body: list[list[str] | str] = []
    for head, members in stacks.items():
        inside = len(members) > 1 and head == _stack_of(str(members[0][0]))
        if inside:
            body.append(head)
        for row in members:
            name = str(row[0])
            short = "  " + (name.removeprefix(head).lstrip(". ") or "(itself)") if inside else name
            body.append([short, *(_written(cell) for cell in row[1:])])
    table = [list(columns), *(line for line in body if isinstance(line, list))]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for column in (1, 0):
        spare = _WIDTH - sum(widths) - 2 * (len(widths) - 1)
        if spare < 0:
            widths[column] = max(widths[column] + spare, min(widths[column], _SHORTEST[column]))
            for cells in table:
                cells[column] = _shortened(cells[column], widths[column])
    flush: list[Callable[[str, int], str]] = [
        str.ljust if i < numbers else str.rjust for i in range(len(columns))
    ]

    def line(cells: list[str]) -> str:
        return "  ".join(f(cell, width) for f, cell, width in zip(flush, cells, widths)).rstrip()

    ruler = "  ".join("-" * width for width in widths)
    return [line(list(columns)), ruler, *(x if isinstance(x, str) else line(x) for x in body)]


def _shortened(name: str, width: int) -> str:
    """What does not fit loses its middle: the end of a name tells most."""
    if len(name) <= width:
        return name
    head = width // 3
    return f"{name[:head]}…{name[len(name) - (width - head - 1) :]}"


def _stack_of(name: str) -> str:
    """The part of a name up to its last number or range; empty if it has none."""
    found = _STACK.match(name)
    return found[0] if found else ""


def _written(cell: Cell) -> str:
    return "" if cell is None else compact(cell) if isinstance(cell, int) else cell
