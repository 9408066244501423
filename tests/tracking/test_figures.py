import itertools

import pytest
from matplotlib.text import Annotation

from snn.tracking.figures import accuracy_over_time, training_curves
from snn.tracking.layer_figures import spike_rate_heatmap, spike_rate_per_layer

from .summaries import LAYER_NAMES, layers
from .test_style import boxes


def line(axes, label):
    return next(item for item in axes.lines if item.get_label() == label)


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [child.get_text() for child in axes.get_children() if isinstance(child, Annotation)]
    return found


def end_label_boxes(figure, axes):
    found = [c for c in axes.get_children() if isinstance(c, Annotation) and c.arrow_patch is not None]
    return boxes(figure, found)


def no_overlap(figure, axes):
    found = end_label_boxes(figure, axes)
    assert len(found) >= 1
    for i, one in enumerate(found):
        assert one.x1 <= figure.bbox.x1
        assert not any(one.overlaps(other) for other in found[i + 1 :])
    return True


@pytest.mark.parametrize("steps", [1, 2, 8, 10, 11, 16, 17, 64, 100, 1000])
def test_accuracy_over_time_shows_the_numbers_it_was_given(steps):
    values = [0.8 - 0.3 / t for t in range(1, steps + 1)]
    figure = accuracy_over_time(values, float_accuracy=0.801, quantized_accuracy=0.8, subtitle="bert on trec")
    axes = figure.axes[0]
    assert list(line(axes, "spiking").get_xdata()) == list(range(1, steps + 1))
    assert list(line(axes, "spiking").get_ydata()) == values
    assert set(line(axes, "float ANN").get_ydata()) == {0.801}
    assert set(line(axes, "quantised ANN").get_ydata()) == {0.8}
    assert axes.get_xlabel() == "time step t"
    assert axes.get_ylabel() == "accuracy at t (%)"
    ticks = axes.get_xticks()
    assert ticks[0] == 1
    assert ticks[-1] == steps
    assert len(ticks) <= 11
    assert "bert on trec" in texts(figure)
    assert no_overlap(figure, axes)


def test_a_prefix_is_dashed_and_says_so():
    figure = accuracy_over_time([0.5, 0.8], causal=False)
    assert line(figure.axes[0], "spiking").is_dashed()
    assert any("prefix\n(not causal) 80.0 %" in text for text in texts(figure))
    causal = accuracy_over_time([0.5, 0.8])
    assert not line(causal.axes[0], "spiking").is_dashed()
    assert not any("prefix" in text for text in texts(causal))


def test_networks_built_for_each_T_are_markers_inside_the_axes():
    figure = accuracy_over_time([0.6, 0.7], accuracy_at_T={1: 0.4, 2: 0.7, 8: 0.79})
    axes = figure.axes[0]
    points = line(axes, "accuracy/T")
    assert dict(zip(points.get_xdata(), points.get_ydata())) == {1: 0.4, 2: 0.7, 8: 0.79}
    assert axes.get_ylim()[0] < 0.4
    assert axes.get_xlim()[1] > 8


def test_a_value_that_is_not_a_number_leaves_a_gap():
    nan = float("nan")
    figure = accuracy_over_time([0.5, nan], float_accuracy=nan)
    figure.canvas.draw()
    assert line(figure.axes[0], "spiking").get_ydata()[0] == 0.5


def test_an_empty_curve_is_refused():
    with pytest.raises(ValueError, match="per_timestep is empty"):
        accuracy_over_time([])


def test_a_metric_that_is_no_fraction_is_not_called_a_percentage():
    axes = accuracy_over_time([12.0, 8.5], metric="perplexity").axes[0]
    assert axes.get_ylabel() == "perplexity at t"


def test_spike_rates_are_bars_in_network_order():
    rows = layers()
    figure = spike_rate_per_layer(rows, mean=0.2)
    axes = figure.axes[0]
    positive, negative = axes.containers
    assert [bar.get_width() for bar in positive] == pytest.approx([row["positive_rate"] for row in rows])
    assert [bar.get_width() for bar in negative] == pytest.approx([row["negative_rate"] for row in rows])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(names)) == len(rows) == 50
    assert all(short in full for short, full in zip(names, LAYER_NAMES))
    assert names[1] == "0.attention.self.query"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first layer is on top
    assert axes.get_xlabel() == "spikes per neuron per time step"
    assert "network 0.200" in texts(figure)


def test_layer_names_do_not_overlap_or_leave_the_page():
    figure = spike_rate_per_layer(layers())
    renderer = figure.canvas.get_renderer()
    found = [label.get_window_extent(renderer) for label in figure.axes[0].get_yticklabels()]
    assert all(box.x0 >= 0 for box in found)
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(found))


def test_unsigned_rates_are_one_colour():
    figure = spike_rate_per_layer([{"name": "a", "rate": 0.0}, {"name": "b", "rate": 0.5}])
    assert [bar.get_width() for bar in figure.axes[0].containers[0]] == [0.0, 0.5]
    assert len(figure.axes[0].containers) == 1
    assert not any("negative" in text for text in texts(figure))


@pytest.mark.parametrize("steps", [1, 8, 64])
def test_heatmap_shows_the_rates(steps):
    rows = layers(steps)
    figure = spike_rate_heatmap(rows)
    axes = figure.axes[0]
    image = axes.images[0].get_array()
    assert image.shape == (50, steps)
    assert image[3].tolist() == pytest.approx(rows[3]["rate_per_timestep"])
    assert axes.get_xticks()[0] == 1
    assert axes.get_xticks()[-1] == steps
    assert figure.axes[1].get_ylabel() == "spikes per neuron"


def test_heatmap_ends_where_nothing_fires_any_more():
    rows = [{"name": "a", "rate_per_timestep": [0.5, 0.2, *[0.0] * 30]}]
    axes = spike_rate_heatmap(rows).axes[0]
    assert axes.images[0].get_array().tolist() == [[0.5, 0.2, 0.0]]
    assert axes.get_xlabel() == "time step; nothing fires from 3 to 32"


def test_heatmap_without_rates_over_time_is_refused():
    with pytest.raises(ValueError, match="rate_per_timestep"):
        spike_rate_heatmap([{"name": "a", "rate": 0.1}])


def test_training_curves_show_stages_side_by_side():
    stages = [
        {"name": "float", "loss": [(1, 0.7), (2, 0.5)], "validation_loss": [(2, 0.6)], "metric": [(2, 0.7)]},
        {"name": "quantized", "loss": [(3, 0.55), (4, 0.4)], "validation_loss": [], "metric": [(4, 0.75)]},
    ]
    figure = training_curves(stages)
    loss, score = figure.axes
    drawn = [
        list(zip(curve.get_xdata(), curve.get_ydata())) for curve in loss.lines if len(curve.get_xdata())
    ]
    assert [(1, 0.7), (2, 0.5)] in drawn
    assert [(3, 0.55), (4, 0.4)] in drawn
    assert {"float", "quantized", "training", "validation"} <= set(texts(figure))
    assert "validation\naccuracy 75.0 %" in texts(figure)
    assert score.get_xlabel() == "optimiser step"
    assert no_overlap(figure, loss)


def test_training_without_validation_still_draws():
    figure = training_curves([{"name": "float", "loss": [(1, 0.7)]}])
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.7]
    assert len(figure.axes) == 1
