"""One look for every figure: colours that everybody can tell apart, labels beside the lines they name, light and dark.

Figures are drawn without pyplot, so nothing here touches a notebook's backend or its settings.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, PercentFormatter

from snn.tracking.dark import with_dark
from snn.tracking.files import write_bytes

# Okabe and Ito (2008). Yellow is left out: it cannot be read on white.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#767676"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT, BACKGROUND = "#1A1A1A", "#444444", "#CCCCCC"
#: Widths of figures in inches: one column of a paper, both columns.
COLUMN, PAGE = 3.5, 7.0

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures look the same everywhere
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.labelcolor": INK,
    "text.color": INK,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "snn",  # the same figure gives the same file
}
_DPI = 160


def style() -> AbstractContextManager[None]:
    """The settings of all figures, for use in a ``with`` block."""
    return mpl.rc_context(_SETTINGS)


@dataclass
class Margins:
    """Free room around the axes, in inches."""

    left: float = 0.75
    right: float = 0.25
    top: float = 0.75
    bottom: float = 0.6


def new_figure(
    width: float, height: float, margins: Margins, rows: int = 1, columns: int = 1, **grid
) -> Figure:
    """Make a figure whose axes (``figure.axes``) have a known place, so that labels can be set beside them.

    Args:
        width: Inches.
        height: Inches.
        margins: Around all axes.
        rows: Axes below each other.
        columns: Axes beside each other.
        **grid: For ``Figure.subplots``, such as ``sharex``, and ``hspace`` or ``wspace``.
    """
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(
        left=margins.left / width,
        right=1 - margins.right / width,
        top=1 - margins.top / height,
        bottom=margins.bottom / height,
        hspace=grid.pop("hspace", None),
        wspace=grid.pop("wspace", None),
    )
    figure.subplots(rows, columns, **grid)
    return figure


def headline(figure: Figure, title: str, subtitle: str = "", sizes: tuple[float, float] = (11, 8.5)) -> None:
    """Write what the figure shows, and below it of what, flush left above the axes; ``sizes`` of both in points."""
    width, height = figure.get_size_inches()
    left, below = 0.12 / width, 0.10 + 1.5 * sizes[0] / 72
    figure.text(left, 1 - 0.10 / height, title, va="top", ha="left", fontsize=sizes[0], fontweight="bold")
    figure.text(left, 1 - below / height, subtitle, va="top", ha="left", fontsize=sizes[1], color=FAINT)


def end_labels(
    axes: Axes,
    labels: Sequence[tuple[float, str, str]],
    fontsize: float = 9,
    xs: Sequence[float] | None = None,
) -> list[Annotation]:
    """Name lines at the right edge of the axes, moved apart where they would overlap.

    The text is in ink, since not every colour of a line can be read; a stroke in the line's colour leads to it.
    Call it last: it uses the final limits of the axes.

    Args:
        axes: Where.
        labels: ``(y in data units, text, colour)``.
        fontsize: Points.
        xs: Where the strokes start, in data units; ``None``: at the right edge.

    Returns:
        The annotations, in the order of ``labels``; there is none for a value that is not a number.
    """
    starts = [*xs] if xs is not None else [axes.get_xlim()[1]] * len(labels)
    known = [(x, *label) for x, label in zip(starts, labels, strict=True) if math.isfinite(label[0])]
    figure = axes.get_figure(root=True)
    assert figure is not None
    box, inches = axes.get_position(), figure.get_size_inches()
    width, height = box.width * inches[0] * 72, box.height * inches[1] * 72  # points
    ends = axes.transAxes.inverted().transform(
        axes.transData.transform([(x, y) for x, y, *_ in known] or [(1, 1)])
    )
    sizes = [fontsize * 1.25 * (text.count("\n") + 1) for _, _, text, _ in known]
    placed = spread([float(at * height) for _, at in ends][: len(known)], sizes, height)
    annotations = []
    for (_, _, text, colour), (across, at), to in zip(known, ends, placed):
        annotations.append(
            axes.annotate(
                text,
                xy=(across, at),
                xycoords="axes fraction",
                xytext=((1 - across) * width + 14, to - at * height),
                textcoords="offset points",
                va="center",
                ha="left",
                color=INK,
                fontsize=fontsize,
                linespacing=1.1,
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": colour,
                    "linewidth": 1.2 if xs is None else 0.7,
                    "shrinkA": 1,
                    "shrinkB": 1 if xs is None else 4,
                    "relpos": (0, 0.5),
                },
            )
        )
    return annotations


def spread(wanted: Sequence[float], sizes: Sequence[float], room: float) -> list[float]:
    """Move intervals apart as little as needed, keeping their order, inside ``[0, room]`` where they fit.

    Args:
        wanted: Where the centres should be.
        sizes: Lengths of the intervals.
        room: Length of the range that they share.

    Example:
        >>> spread([50, 50], [10, 10], 100)
        [45.0, 55.0]
        >>> spread([0, 99], [10, 10], 100)
        [5.0, 95.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Neighbours that touch become one block, placed at the mean of what its members want.
    blocks: list[tuple[float, list[int]]] = []
    for index in order:
        start, members = wanted[index] - sizes[index] / 2, [index]
        while True:
            length = sum(sizes[i] for i in members)
            start = min(max(start, 0.0), max(room - length, 0.0))
            if not blocks or blocks[-1][0] + sum(sizes[i] for i in blocks[-1][1]) <= start + 1e-9:
                break
            members = blocks.pop()[1] + members
            offsets = [sum(sizes[i] for i in members[:n]) + sizes[m] / 2 for n, m in enumerate(members)]
            start = sum(wanted[m] - offset for m, offset in zip(members, offsets)) / len(members)
        blocks.append((start, members))
    centres = [0.0] * len(wanted)
    for start, members in blocks:
        for member in members:
            centres[member] = start + sizes[member] / 2
            start += sizes[member]
    return centres


def percent(value: float) -> str:
    """Write a fraction as a percentage; a number that is no fraction stays what it is.

    Example:
        >>> percent(0.788), percent(2.5)
        ('78.8 %', '2.5')
    """
    return f"{100 * value:.1f} %" if abs(value) <= 1 else f"{value:.3g}"


def time_axis(axes: Axes, steps: int) -> None:
    """Set limits and round ticks of an x axis of time steps 1..``steps``; both ends have a tick."""
    axes.set_xlim(1 - max(0.02 * steps, 0.15), steps + max(0.02 * steps, 0.15))
    if steps <= 10:
        axes.xaxis.set_major_locator(FixedLocator(range(1, steps + 1)))
    else:
        every = next(
            n for n in (2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100, 200, 500, 1000, 10**9) if steps / n <= 8.5
        )
        ticks = [t for t in range(every, steps, every) if steps - t >= 0.6 * every and t - 1 >= 0.4 * every]
        axes.xaxis.set_major_locator(FixedLocator([1, *ticks, steps]))


def fraction_axis(axes: Axes, values: Sequence[float], name: str) -> None:
    """Fit a y axis to ``values`` and name it; fractions are read as percentages."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = max(0.08 * (high - low), 0.01)
    axes.set_ylim(low - room, high + room)
    fractions = max(abs(low), abs(high)) <= 1
    axes.set_ylabel(f"{name} (%)" if fractions else name)
    if fractions:
        axes.yaxis.set_major_formatter(
            PercentFormatter(1.0, decimals=0 if high - low > 0.05 else 1, symbol="")
        )


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Write ``<path>.png`` (160 dots per inch) and ``<path>.svg``, which turns dark with its reader, each atomically.

    Args:
        figure: What to write.
        path: Without suffix.

    Returns:
        The two files, the PNG first.

    Raises:
        RunFileError: A file cannot be written.
    """
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return [
        write_bytes(f"{path}.png", buffer.getvalue()),
        write_bytes(f"{path}.svg", to_svg(figure).encode()),
    ]


def to_svg(figure: Figure, *, text: bool = False) -> str:
    """The figure as SVG, the same every time, with colours that turn dark with its reader.

    Args:
        figure: What to draw.
        text: Whether text stays text, which is small and can be searched, but is set in the reader's font; otherwise
            it is drawn as outlines.
    """
    buffer = io.StringIO()
    with style(), mpl.rc_context({"svg.fonttype": "none" if text else "path"}):
        figure.savefig(buffer, format="svg", dpi=_DPI, metadata={"Date": None})
    return with_dark(buffer.getvalue())


def shorten(names: Sequence[str]) -> list[str]:
    """Cut dotted names to the shortest tail that still tells them apart, of two parts at least.

    Example:
        >>> shorten(["bert.layer.0.output.qcfs", "bert.layer.1.output.qcfs", "bert.pooler.qcfs"])
        ['0.output', '1.output', 'bert.pooler']
        >>> shorten(["stem.0.conv", "stem.1.conv", "blocks.0.attention"])
        ['stem.0.conv', 'stem.1.conv', 'blocks.0.attention']
    """
    parts = [name.split(".") for name in names]
    while len(parts) > 1 and all(len(p) > 2 for p in parts) and len({p[-1] for p in parts}) == 1:
        parts = [p[:-1] for p in parts]
    sizes = []
    for own in parts:
        size = 2
        while size < len(own) and sum(other[-size:] == own[-size:] for other in parts) > 1:
            size += 1
        sizes.append(min(size, len(own)))
    # A number alone says nothing where there are several lists of modules.
    numbered = [own[-size].isdigit() and size < len(own) for own, size in zip(parts, sizes)]
    lists = {own[-size - 1] for own, size, yes in zip(parts, sizes, numbered) if yes}
    sizes = [size + (yes and len(lists) > 1) for size, yes in zip(sizes, numbered)]
    return [".".join(own[-size:]) for own, size in zip(parts, sizes)]
