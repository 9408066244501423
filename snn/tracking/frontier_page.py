"""A sweep as one HTML page that needs nothing else: figures, a table that can be sorted, a command for every job."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from snn.tracking.frontier import Facet, Point, marker_name
from snn.tracking.sweep_jobs import Job
from snn.tracking.table import format_number

_CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --faint: #555; --line: #ddd; --mark: #eef5fa;
  --link: #0062a3; --bad: #b34700; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --ink: #e6e8ea; --faint: #a9afb5; --line: #33393e;
  --mark: #1f2c36; --link: #6cb8ee; --bad: #ff9a56; } }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: var(--paper);
  margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p, ul { margin: .4rem 0; } .note { color: var(--faint); font-size: .85rem; }
code, pre { font: .85rem/1.4 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--mark); padding: .5rem .7rem;
  border-radius: .3rem; margin: .4rem 0; }
a { color: var(--link); } .bad { color: var(--bad); font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: .5rem 1rem; }
.figures svg { width: 100%; height: auto; max-width: 28rem; font-family: "DejaVu Sans", Verdana, sans-serif; }
.figures g[id^="point-"] { cursor: pointer; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); }
th button { all: unset; cursor: pointer; color: var(--faint); } th button:focus-visible { outline: 2px solid; }
th[aria-sort="ascending"] button::after { content: " ▲"; } th[aria-sort="descending"] button::after { content: " ▼"; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr:target td, tr.chosen td { background: var(--mark); } summary { cursor: pointer; color: var(--link); }
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const value = row => row.cells[column].dataset.value ?? "";
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    };
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
for (const point of document.querySelectorAll('g[id^="point-"]'))
  point.addEventListener("click", () => {
    const jobs = point.dataset.jobs.split(" ");
    for (const row of document.querySelectorAll("tr[id]")) row.classList.toggle("chosen", jobs.includes(row.id));
    const first = document.getElementById(jobs[0]);
    first.querySelector("details").open = true;
    first.scrollIntoView({block: "center"});
  });
"""


def frontier_page(
    title: str,
    jobs: Sequence[Job],
    found: Sequence[tuple[Facet, Mapping[str, str]]],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    counted: str,
    command: str = "",
    notes: Sequence[str] = (),
    folder: Path | None = None,
) -> str:
    """Write the page.

    Args:
        title: Name of the sweep.
        jobs: All of them.
        found: The facets, each with its figures: key of a cost → SVG.
        columns: Headings of the table.
        rows: Cells, in the order of ``jobs``, the first and the last being name and status.
        counted: How many jobs ended how.
        command: What made the sweep.
        notes: What the figures rest on.
        folder: Where the page goes, for links to the jobs' own reports.
    """
    sections = [_facet(facet, figures, jobs, several=len(found) > 1) for facet, figures in found]
    if not sections:
        sections = ['<p class="bad">No job has finished with a score, so there is nothing to draw.</p>']
    head = "".join(
        f'<th{_kind(rows, i)}><button type="button">{escape(name)}</button></th>'
        for i, name in enumerate(columns)
    )
    body = "".join(_row(number, job, row, folder) for number, (job, row) in enumerate(zip(jobs, rows)))
    unfinished = [job for job in jobs if job.status != "finished"]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p id="counted">{escape(counted)}</p>',
        f"<pre>{escape(command)}</pre>" if command else "",
        *sections,
        "<h2>Jobs</h2>",
        f'<div class="scroll"><table id="jobs"><thead><tr>{head}<th><button type="button">command</button></th>'
        f"</tr></thead><tbody>{body}</tbody></table></div>",
        _listed("Not finished", [job.told for job in unfinished], "bad"),
        _listed("How to read this", list(notes), "note"),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    content = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>{head}\n<style>{_CSS}</style></head>\n<body>\n{content}\n'
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _facet(facet: Facet, figures: Mapping[str, str], jobs: Sequence[Job], several: bool) -> str:
    heading = f"{facet.dataset}: {facet.metric}" if several and facet.dataset else "Frontier"
    drawn = "\n".join(
        f"<div>{_inline(figures[cost.key], facet, cost.key, jobs)}</div>"
        for cost in facet.costs
        if cost.key in figures
    )
    return f'<section><h2>{escape(heading)}</h2>\n<div class="figures">{drawn}</div></section>'


def _inline(svg: str, facet: Facet, key: str, jobs: Sequence[Job]) -> str:
    """The SVG without its prologue, each marker with the numbers that it stands for and the rows where they are."""
    svg = svg[svg.index("<svg") :]
    (cost,) = (cost for cost in facet.costs if cost.key == key)
    places = {(job.name, job.path): place for place, job in enumerate(jobs)}
    for point in facet.points:
        name = marker_name(cost, facet.points.index(point))
        cited = " ".join(f"job-{places[job.name, job.path]}" for job in point.jobs)
        svg = svg.replace(
            f'<g id="{name}">',
            f'<g id="{name}" data-jobs="{cited}"><title>{escape(_told(point, facet))}</title>',
            1,
        )
    return svg


def _told(point: Point, facet: Facet) -> str:
    known = [cost for cost in facet.costs[1:] if cost.fact in point.costs]
    costs = [f"{cost.label}: {format_number(point.costs[cost.fact])}" for cost in known]
    return "; ".join([f"{point.label}, T = {point.T:.4g}: {facet.metric} {point.score:.4f}", *costs])


def _kind(rows: Sequence[Sequence[Any]], column: int) -> str:
    return ' class="number"' if any(_is_number(row[column]) for row in rows) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _row(number: int, job: Job, row: Sequence[Any], folder: Path | None) -> str:
    cells = []
    for index, value in enumerate(row):
        text = escape(format_number(value))
        if index == 0:
            text = _link(job, text, folder)
        elif index == len(row) - 1 and job.status != "finished":
            text = f'<span class="bad">{text}</span>'
        kind = ' class="number"' if _is_number(value) else ""
        sortable = escape("" if value is None else str(value), quote=True)
        cells.append(f'<td{kind} data-value="{sortable}">{text}</td>')
    command = job.facts.get("command")
    shown = f"<details><summary>show</summary><pre>{escape(command)}</pre></details>" if command else "–"
    return f'<tr id="job-{number}">{"".join(cells)}<td>{shown}</td></tr>\n'


def _link(job: Job, text: str, folder: Path | None) -> str:
    report = job.path / "report.md" if job.path else None
    if report is None or folder is None or not report.exists():
        return text
    return f'<a href="{escape(Path(os.path.relpath(report, folder)).as_posix(), quote=True)}">{text}</a>'


def _listed(heading: str, lines: Sequence[str], kind: str) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<h2>{heading}</h2>\n<ul class="{kind}">{items}</ul>'
