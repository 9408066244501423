"""Pages that show sentences, each word shaded by how much its neurons spike: HTML that needs nothing else, and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from snn.tracking.files import write_text
from snn.tracking.sentences import Sentence, SpokenWord, rate_between
from snn.tracking.shading import Shading
from snn.tracking.style import BLUE, VERMILLION, save
from snn.tracking.token_figures import words_over_time

#: Most lines of a page that show the sentence; longer runs are shown in intervals.
LINES = 16

_CSS = f"""
body {{ font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #111; background: #fff; margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; margin: 0; }} h2 {{ font-size: 1.05rem; margin: 2rem 0 .5rem; }}
.note, .legend, th {{ color: #555; font-size: .85rem; font-weight: normal; }}
a {{ color: {BLUE}; }} .wrong {{ color: {VERMILLION}; font-weight: bold; }}
.word {{ padding: .1em .25em; border-radius: .2em; display: inline-block; }} .special {{ font-size: .75em; }}
.sentence {{ line-height: 1.9; }} p.sentence {{ font-size: 1.25rem; margin: .3rem 0; }}
.bar {{ display: inline-block; width: 9rem; height: .7em; border: 1px solid #bbb; margin: 0 .5em;
  background: linear-gradient(to right, #fff, {BLUE}); }}
table {{ border-collapse: collapse; }}
td, th {{ text-align: left; vertical-align: baseline; padding: .15rem .8rem .15rem 0; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }} svg {{ vertical-align: middle; }}
"""


def write_pages(sentences: Sequence[Sentence], folder: Path) -> dict[str, Path]:
    """Write a page and a picture for each sentence, and ``index.html``.

    Args:
        sentences: What to show.
        folder: Where to.

    Returns:
        Name of the picture → its PNG.

    Raises:
        RunFileError: A file cannot be written.
    """
    pictures = {}
    for sentence in sentences:
        name = _name(sentence)
        write_text(folder / f"{name}.html", sentence_page(sentence))
        pictures[name] = save(words_over_time(sentence), folder / name)[0]
    write_text(folder / "index.html", index_page(sentences))
    return pictures


def sentence_page(sentence: Sentence) -> str:
    """One sentence: shaded by the mean over time, at each time step, and word by word."""
    intervals = sentence.intervals(LINES)
    times = Shading.of(rate_between(word, *interval) for word in sentence.spoken for interval in intervals)
    mean = Shading.of(word.rate for word in sentence.spoken)
    lines = "".join(
        f"<tr><th>t = {first if first == last else f'{first}–{last}'}</th>"
        f'<td class="sentence" dir="auto">{_words(sentence, times, (first, last))}</td>'
        f"<td>{escape(sentence.predictions[last - 1])}</td></tr>\n"
        for first, last in intervals
    )
    rows = "".join(
        f"<tr><td><bdi>{escape(word.text)}</bdi></td><td class='number'>{word.rate:.3f}</td>"
        f"<td>{_sparkline(word, times)}</td></tr>\n"
        for word in sentence.ranked()
    )
    prefix = (
        "" if sentence.causal else " (prefix: the neurons are not causal, so only the last step is final)"
    )
    return _document(
        f"Sample {sentence.number}",
        f'<p class="note"><a href="index.html">All sentences</a> · <a href="{_name(sentence)}.png">picture</a></p>\n'
        f'<h1>Sample {sentence.number}</h1>\n<p class="note">{escape(sentence.subtitle)}</p>\n'
        f'<p id="verdict">{_verdict(sentence)}</p>\n'
        f'<p class="sentence" id="mean" dir="auto">{_words(sentence, mean)}</p>\n{_legend(mean, "mean over time")}\n'
        f'<h2>Over time{prefix}</h2>\n<table id="time"><tr><th>step</th><th>spikes</th><th>prediction</th></tr>\n'
        f"{lines}</table>\n{_legend(times, 'at a step')}\n"
        '<h2>Words, the most active first</h2>\n<table id="words"><tr><th>word</th><th>rate</th>'
        f"<th>over time</th></tr>\n{rows}</table>\n",
    )


def index_page(sentences: Sequence[Sentence]) -> str:
    """All sentences of the run, each with a link to its page; one scale for all of them."""
    scale = Shading.of(word.rate for sentence in sentences for word in sentence.spoken)
    rows = "".join(
        f'<tr><td class="number"><a href="{_name(s)}.html">{s.number}</a></td>'
        f'<td class="sentence" dir="auto">{_words(s, scale)}</td><td>{_verdict(s)}</td></tr>\n'
        for s in sentences
    )
    subtitle = escape(sentences[0].subtitle) if sentences else "no sentence was asked for"
    return _document(
        "Spikes over words",
        f'<h1>Spikes over words</h1>\n<p class="note">{subtitle}</p>\n{_legend(scale, "mean over time")}\n'
        f'<table id="sentences"><tr><th>sample</th><th>sentence</th><th></th></tr>\n{rows}</table>\n',
    )


def _document(title: str, body: str) -> str:
    head = f'<meta charset="utf-8">\n<title>{escape(title)}</title>\n<style>{_CSS}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}</body>\n</html>\n'


def _words(sentence: Sentence, scale: Shading, interval: tuple[int, int] | None = None) -> str:
    return " ".join(
        _word(word, word.rate if interval is None else rate_between(word, *interval), scale)
        for word in sentence.words
    )


def _word(word: SpokenWord, rate: float, scale: Shading) -> str:
    kind = "word special" if word.special else "word"
    style = f"background:{scale.colour(rate)};color:{scale.ink(rate)}"
    told = f"{word.text}: {rate:.4f} spikes per neuron per step"
    return (
        f'<bdi class="{kind}" style="{style}" data-rate="{rate:.6f}" title="{escape(told)}">'
        f"{escape(word.text)}</bdi>"
    )


def _verdict(sentence: Sentence) -> str:
    said = f"predicted {escape(sentence.prediction)}, label {escape(sentence.label)}"
    if sentence.right is None:
        return said
    right = "right" if sentence.right else '<span class="wrong">wrong</span>'
    prefix = "" if sentence.causal else " (prefix)"
    return f"{right}: {said}; decided at step {sentence.decision_time} of {sentence.T}{prefix}"


def _legend(scale: Shading, what: str) -> str:
    return (
        f'<p class="legend">{scale.low:.3f}<span class="bar"></span>{scale.high:.3f} '
        f"spikes per neuron per time step, {what}; the tokenizer's own tokens may lie beyond</p>"
    )


def _sparkline(word: SpokenWord, scale: Shading, width: int = 120, height: int = 18) -> str:
    rates = word.rate_per_timestep
    top = max(scale.high, *rates) or 1.0
    points = [
        (width * (i + 0.5) / len(rates), height - 1 - (height - 2) * r / top) for i, r in enumerate(rates)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="rate over time">'
        f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="1.5"/></svg>'
    )


def _name(sentence: Sentence) -> str:
    return f"sample_{sentence.number:05d}"
