"""The figure of conversion errors shows the numbers of the table, row by row."""

from itertools import pairwise

import pytest
from matplotlib.text import Annotation

from snn.tracking.conversion_figures import error_by_depth

from .summaries import errors


def line(axes, label):
    return next(item for item in axes.lines if item.get_label() == label)


def texts(axes):
    return [child.get_text() for child in axes.get_children() if isinstance(child, Annotation)]


def settling(rows, unsettled=0.0):
    """The same rows, of neurons that settle later the deeper they are."""
    return [
        {
            **row,
            "settled_mean": 1.5 + i,
            "settled_99": 2 + i,
            "settled_last": 4 + i,
            "share_unsettled": unsettled,
        }
        for i, row in enumerate(rows)
    ]


def test_differences_are_shown_on_a_log_axis_with_a_place_for_zero():
    rows = errors()
    figure = error_by_depth(rows)
    levels = figure.axes[0]
    assert len(figure.axes) == 2
    assert levels.get_xscale() == "log"
    wanted = [(row["mean_levels"], place) for place, row in enumerate(rows) if row["mean_levels"]]
    shown = line(levels, "mean")
    assert list(shown.get_xdata()) == pytest.approx([level for level, _ in wanted])
    assert list(shown.get_ydata()) == [place for _, place in wanted]
    exact = line(levels, "exactly zero")
    assert list(exact.get_ydata()) == [place for place, row in enumerate(rows) if not row["mean_levels"]]
    assert max(exact.get_xdata()) < min(level for level, _ in wanted)
    figure.canvas.draw()
    assert next(label.get_text() for label in levels.get_xticklabels()) == "0"
    low, high = levels.get_ylim()
    assert low > high  # the first layer is at the top


def test_shares_are_stacked():
    rows = errors()
    shares = error_by_depth(rows).axes[1]
    one, more = shares.containers
    assert [bar.get_width() for bar in one] == pytest.approx([100 * row["share_off_by_one"] for row in rows])
    assert [bar.get_x() for bar in more] == pytest.approx([100 * row["share_off_by_one"] for row in rows])
    assert [bar.get_width() for bar in more] == pytest.approx(
        [100 * row["share_off_by_more"] for row in rows]
    )
    assert texts(shares).count("1e-02") == sum(row["differing"] > 0 for row in rows)


def test_equal_networks_say_so():
    rows = [
        {**row, "mean_levels": 0.0, "share_off_by_one": 0.0, "share_off_by_more": 0.0} for row in errors()
    ]
    figure = error_by_depth(rows)
    figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0"]
    assert "every code is equal" in texts(figure.axes[1])


def test_settling_has_a_panel_of_its_own():
    rows = settling(errors())
    axes = error_by_depth(rows, T=60).axes[2]
    for label, key in (("mean", "settled_mean"), ("99 %", "settled_99"), ("last", "settled_last")):
        assert list(line(axes, label).get_xdata()) == [row[key] for row in rows]
    assert not any("moving" in text for text in texts(axes))
    assert texts(error_by_depth(settling(errors(), 0.031)).axes[2]).count("3.1 % moving") == len(rows)


def test_names_of_many_layers_do_not_overlap():
    rows = settling(errors() + [{**row, "name": f"second.{row['name']}"} for row in errors()])
    figure = error_by_depth(rows)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 100
    assert all(above.y0 >= below.y1 - 1 for above, below in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0


def test_an_infinite_difference_is_drawn_at_the_edge():
    row = {"name": "a", "mean_levels": float("inf"), "share_off_by_one": 0.5, "share_off_by_more": 0.5}
    axes = error_by_depth([row]).axes[0]
    assert list(line(axes, "mean").get_xdata()) == [axes.get_xlim()[1]]
