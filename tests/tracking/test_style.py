import itertools
import subprocess
import sys

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn.tracking.style import Margins, end_labels, new_figure, percent, save, shorten, spread, style


@given(
    st.lists(st.tuples(st.floats(0, 300), st.floats(5, 30)), min_size=1, max_size=8),
    st.floats(250, 400),
)
def test_spread_intervals_keep_order_and_never_overlap(items, room):
    wanted, sizes = [w for w, _ in items], [s for _, s in items]
    placed = spread(wanted, sizes, room)
    order = sorted(range(len(items)), key=lambda i: placed[i])
    for one, next_one in itertools.pairwise(order):
        assert placed[next_one] - placed[one] >= (sizes[one] + sizes[next_one]) / 2 - 1e-6
        assert wanted[one] <= wanted[next_one]
    if sum(sizes) <= room:
        assert all(s / 2 - 1e-6 <= p <= room - s / 2 + 1e-6 for p, s in zip(placed, sizes))


@given(st.lists(st.floats(20, 280), min_size=1, max_size=6, unique=True))
def test_spread_leaves_alone_what_does_not_overlap(wanted):
    placed = spread(wanted, [1e-9] * len(wanted), 300)
    assert placed == pytest.approx(wanted, abs=1e-6)


def boxes(figure, annotations):
    renderer = figure.canvas.get_renderer()
    return [
        a.get_window_extent(renderer) if not a.arrow_patch else _text_box(a, renderer) for a in annotations
    ]


def _text_box(annotation, renderer):
    from matplotlib.text import Text

    annotation.update_positions(renderer)
    return Text.get_window_extent(annotation, renderer)


@pytest.mark.parametrize(
    "values", [[0.79, 0.789, 0.788, 0.788], [0.5, 0.5, 0.5, 0.5], [0.0, 1.0, 0.999, 1.0]]
)
def test_direct_labels_never_overlap_and_stay_on_the_page(values):
    with style():
        figure = new_figure(6, 3.5, Margins(right=2))
        axes = figure.axes[0]
        axes.plot([1, 2], [0, 1])
        made = end_labels(axes, [(v, f"line {i}\nsecond row", "black") for i, v in enumerate(values)])
        found = boxes(figure, made)
    for i, one in enumerate(found):
        assert one.x1 <= figure.bbox.x1
        assert 0 <= one.y0 <= one.y1 <= figure.bbox.y1
        for other in found[i + 1 :]:
            assert not one.overlaps(other)


def test_names_keep_the_tail_that_tells_them_apart():
    names = ["m.layer.0.a.q", "m.layer.0.b.q", "m.layer.1.a.q", "m.layer.1.b.q"]
    assert shorten(names) == ["0.a", "0.b", "1.a", "1.b"]
    assert shorten(["conv"]) == ["conv"]
    assert shorten(["a", "x.a", "y.a"]) == ["a", "x.a", "y.a"]
    assert shorten([]) == []


@given(st.lists(st.text("ab.", min_size=1, max_size=9), unique=True, max_size=12))
def test_short_names_are_as_different_as_the_long_ones(names):
    short = shorten(names)
    assert len(set(short)) == len(names)
    assert all(tail in name for tail, name in zip(short, names))


def test_saving_writes_both_formats_the_same_every_time(tmp_path):
    figure = new_figure(3, 2, Margins())
    png, svg = save(figure, tmp_path / "a")
    first = png.read_bytes(), svg.read_bytes()
    assert png.name == "a.png"
    assert first[0].startswith(b"\x89PNG")
    assert b"<svg" in first[1]
    save(figure, tmp_path / "a")
    assert (png.read_bytes(), svg.read_bytes()) == first


def test_settings_do_not_leak():
    before = dict(mpl.rcParams)
    with style():
        assert mpl.rcParams["axes.grid"] is True
    assert dict(mpl.rcParams) == before


def test_percent():
    assert percent(0.5) == "50.0 %"
    assert percent(-0.123) == "-12.3 %"


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, snn.tracking, snn.tracking.sweep\n"
        "heavy = {'torch', 'matplotlib', 'wandb', 'pandas', 'transformers', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_drawing_does_not_import_pyplot():
    code = (
        "import sys; from snn.tracking.figures import accuracy_over_time; accuracy_over_time([0.5])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
