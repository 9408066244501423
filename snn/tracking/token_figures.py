"""Figures about the words of texts: spikes of a sentence over time, rates by place, decision times, attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from snn.tracking.layer_figures import layer_axes
from snn.tracking.sentences import Sentence
from snn.tracking.shading import Shading
from snn.tracking.style import (
    BLUE,
    VERMILLION,
    Margins,
    end_labels,
    headline,
    new_figure,
    style,
    time_axis,
)

_SHADES = LinearSegmentedColormap.from_list("rates", ["#FFFFFF", BLUE])
#: Words of a picture; more are on the page.
_WORDS = 60


def words_over_time(sentence: Sentence) -> Figure:
    """Draw the words of a sentence below each other, shaded by their rate at each time step; the word itself is
    shaded by its mean rate.

    Args:
        sentence: What to show; of a long one the first 60 words.
    """
    words = sentence.words[:_WORDS]
    names = [drawable(word.text) for word in words]
    steps = sentence.T
    mean = Shading.of(word.rate for word in sentence.spoken)
    times = Shading.of(rate for word in sentence.spoken for rate in word.rate_per_timestep)
    with style():
        left = 0.45 + 0.085 * max([len(name) for name in names] + [4])
        margins = Margins(left=left, right=1.0, top=0.95, bottom=0.6)
        height = 1.65 + 0.22 * max(len(words), 4)
        figure = new_figure(left + 1.0 + 4.2, height, margins)
        axes = figure.axes[0]
        image = axes.imshow(
            [word.rate_per_timestep for word in words],
            aspect="auto",
            cmap=_SHADES,
            interpolation="nearest",
            vmin=times.low,
            vmax=times.high or 1.0,
            extent=(0.5, steps + 0.5, len(words) - 0.5, -0.5),
        )
        axes.grid(visible=False)
        axes.set_yticks(range(len(words)), names, fontsize=9, parse_math=False)
        axes.tick_params(axis="y", length=0, pad=5)
        for label, word in zip(axes.get_yticklabels(), words):
            label.set_color(mean.ink(word.rate))
            label.set_bbox({"facecolor": mean.colour(word.rate), "edgecolor": "none", "pad": 1.5})
        time_axis(axes, steps)
        axes.set_xlim(0.5, steps + 0.5)
        axes.set_xlabel("time step" if sentence.causal else "time step (prefix: not causal)")
        width, height = figure.get_size_inches()
        box = axes.get_position()
        place = (box.x1 + 0.12 / width, box.y0, 0.13 / width, box.height)
        bar = figure.add_axes(place)
        figure.colorbar(image, cax=bar, label="spikes per neuron")
        bar.tick_params(labelsize=7.5)
        more = f"; the first {_WORDS} of {len(sentence.words)} words" if len(sentence.words) > _WORDS else ""
        said = drawable(f"label {sentence.label}, predicted {sentence.prediction}{more}")
        headline(figure, f"Spikes over the words of sample {sentence.number}", sentence.subtitle)
        figure.text(0.12 / width, 1 - 0.52 / height, said, va="top", fontsize=8.5, parse_math=False)
    return figure


def rate_by_place(places: Sequence[Mapping[str, Any]], *, subtitle: str = "") -> Figure:
    """Draw the spike rate of tokens by their place in the text, and how many texts reach so far.

    Args:
        places: ``place`` (0-based), ``texts`` and ``rate``.
        subtitle: Model, data set, neuron, T.
    """
    with style():
        figure = new_figure(6.4, 4.2, Margins(left=0.95, top=0.8), rows=2, sharex=True, hspace=0.15)
        rate, texts = figure.axes
        at = [row["place"] for row in places]
        rate.plot(at, [row["rate"] for row in places], color=BLUE, marker="o" if len(at) <= 64 else None)
        rate.set_ylabel("spikes per neuron\nper time step")
        texts.bar(at, [row["texts"] for row in places], color=BLUE, width=0.8)
        texts.set_ylabel("texts")
        texts.set_xlabel("place in the text (0: first token)")
        texts.xaxis.set_major_locator(MaxNLocator(integer=True))
        headline(figure, "Spike rate by place in the text", subtitle)
    return figure


def decision_times(counts: Mapping[str, Sequence[int]], *, causal: bool = True, subtitle: str = "") -> Figure:
    """Draw when right and wrong predictions were made: the share of each that had been by step t.

    Args:
        counts: ``right`` and ``wrong``: samples whose prediction stays from step 1, 2, … on.
        causal: Whether a step's read-out depends on nothing later.
        subtitle: Model, data set, neuron, T.
    """
    with style():
        figure = new_figure(6.4, 3.9, Margins(right=1.5))
        axes = figure.axes[0]
        ends = []
        for kind, colour in (("right", BLUE), ("wrong", VERMILLION)):
            own = list(counts.get(kind) or [])
            if not sum(own):
                continue
            shares = [sum(own[: t + 1]) / sum(own) for t in range(len(own))]
            axes.plot(range(1, len(own) + 1), shares, color=colour, drawstyle="steps-post")
            mean = sum(n * t for t, n in enumerate(own, 1)) / sum(own)
            ends.append((shares[-1], f"{kind}: {sum(own):,}\nmean step {mean:.2f}", colour))
        time_axis(axes, max(len(own) for own in counts.values()))
        axes.set_ylim(0, 1.05)
        axes.set_ylabel("share that is decided")
        axes.set_xlabel("time step" if causal else "time step (prefix: not causal)")
        headline(figure, "From when on the prediction stays", subtitle)
        end_labels(axes, ends)
    return figure


def attention_and_spikes(heads: Sequence[Mapping[str, Any]], *, subtitle: str = "") -> Figure:
    """Draw the correlation of received attention and spike rate, by layer and head; all tokens, and words alone.

    Args:
        heads: ``layer``, ``head``, ``correlation``, ``correlation_words``; nothing is drawn for ``None``.
        subtitle: Model, data set, neuron, T.
    """
    layers = list(dict.fromkeys(head["layer"] for head in heads))
    number = 1 + max(head["head"] for head in heads)
    with style():
        figure, _, _ = layer_axes(layers, right=1.0, columns=2, width=5.4)
        panels = list(figure.axes)
        for axes, key, title in zip(
            panels, ("correlation", "correlation_words"), ("all tokens", "words alone")
        ):
            table = [[float("nan")] * number for _ in layers]
            for head in heads:
                if head[key] is not None:
                    table[layers.index(head["layer"])][head["head"]] = head[key]
            image = axes.imshow(table, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
            axes.grid(visible=False)
            axes.set_title(title)
            axes.set_xlabel("head")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        width, _ = figure.get_size_inches()
        box = panels[-1].get_position()
        bar = figure.add_axes((box.x1 + 0.12 / width, box.y0, 0.13 / width, box.height))
        figure.colorbar(image, cax=bar, label="correlation")
        bar.tick_params(labelsize=7.5)
        headline(figure, "Attention received against spike rate", subtitle)
    return figure


def drawable(text: str) -> str:
    """The text with a square for every character that the font of the figures lacks.

    Example:
        >>> drawable("naïve 🙂")
        'naïve □'
    """
    return "".join(c if _has(c) else "□" for c in text)


@cache
def _has(character: str) -> bool:
    return get_font(findfont(FontProperties(family="DejaVu Sans"))).get_char_index(ord(character)) != 0
