"""Pages and figures about words: what they show is what they were given, read from a browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import pytest

from snn.tracking.analysis_report import analysis_sections, draw_analyses
from snn.tracking.sentences import Sentence, SpokenWord, rate_between
from snn.tracking.shading import Shading
from snn.tracking.token_figures import words_over_time
from snn.tracking.token_page import index_page, sentence_page, write_pages

WORDS = {
    "[CLS]": [0.1, 0.0, 0.0, 0.0],
    "a": [0.4, 0.2, 0.2, 0.0],
    "<b>film</b>": [0.8, 0.6, 0.4, 0.2],
    "naïve": [0.2, 0.2, 0.2, 0.2],
    "שלום": [0.6, 0.6, 0.0, 0.0],
    "🙂": [0.2, 0.0, 0.1, 0.1],
    "$x$": [0.3, 0.3, 0.3, 0.3],
    "[SEP]": [0.9, 0.9, 0.9, 0.9],
}


def sentence(number: int = 7, **changes: object) -> Sentence:
    words = [SpokenWord(text, rates, text[0] == "[") for text, rates in WORDS.items()]
    given = {
        "label": "good & bad",
        "predictions": ["bad", "good & bad", "good & bad", "good & bad"],
        "decision_time": 2,
        "subtitle": "bert on trec, st_bif, T = 4",
    }
    return Sentence(number, words, **(given | changes))  # type: ignore[arg-type]


class Texts(HTMLParser):
    """What elements of one kind say, and their attributes."""

    def __init__(self, tag: str):
        super().__init__()
        self.tag, self.found, self.inside = tag, [], False

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag == self.tag:
            self.inside = True
            self.found.append([dict(attrs), ""])

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != self.tag

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1][1] += data


def elements(page: str, tag: str) -> list:
    parser = Texts(tag)
    parser.feed(page)
    return parser.found


def test_facts_of_a_sentence() -> None:
    one = sentence()
    assert (one.T, one.prediction, one.right) == (4, "good & bad", True)
    assert one.text == "a <b>film</b> naïve שלום 🙂 $x$"
    assert [word.text for word in one.ranked()][:2] == ["<b>film</b>", "שלום"]
    assert sentence(predictions=["bad"] * 4).right is False
    assert sentence(decision_time=None).right is None
    assert sentence(predictions=["a"] * 64).intervals(16)[-1] == (61, 64)
    assert rate_between(one.words[1], 2, 3) == pytest.approx(0.2)


def test_the_page_says_every_number_and_runs_no_markup() -> None:
    page = sentence_page(sentence())
    shown = [e for e in elements(page, "bdi") if "word" in e[0].get("class", "")]
    assert [text for _, text in shown] == list(WORDS) * 5  # the mean, and four steps
    rates = [float(attributes["data-rate"]) for attributes, _ in shown]
    means = [sum(rates) / 4 for rates in WORDS.values()]
    assert rates[: len(WORDS)] == pytest.approx(means, abs=1e-6)
    for t in range(4):
        at_t = rates[len(WORDS) * (t + 1) : len(WORDS) * (t + 2)]
        assert at_t == pytest.approx([own[t] for own in WORDS.values()])
    assert "<b>" not in page
    assert "decided at step 2 of 4" in page
    assert "prefix" not in page
    assert page.count("prefix") == 0 < sentence_page(sentence(causal=False)).count("prefix")
    assert not re.search(r"(src|href)=.https?:|@import|<script", page)


def test_the_index_links_to_every_page(tmp_path: Path) -> None:
    many = [sentence(3), sentence(12, predictions=["bad"] * 4)]
    pictures = write_pages(many, tmp_path)
    assert set(pictures) == {"sample_00003", "sample_00012"}
    index = (tmp_path / "index.html").read_text()
    for found, number in zip(elements(index, "a"), (3, 12), strict=True):
        assert found[1] == str(number)
        assert (tmp_path / found[0]["href"]).is_file()
        for link in elements((tmp_path / found[0]["href"]).read_text(), "a"):
            assert (tmp_path / link[0]["href"]).is_file()
    assert index.count('class="wrong"') == 1
    for path in pictures.values():
        assert matplotlib.image.imread(path).std() > 0.05  # no blank picture


def test_long_runs_are_shown_in_intervals() -> None:
    rates = [t / 1000 for t in range(40)]
    long = Sentence(0, [SpokenWord("a", rates), SpokenWord("b", rates[::-1])], "x", ["x"] * 40, 1)
    page = sentence_page(long)
    lines = [text for _, text in elements(page, "th") if text.startswith("t = ")]
    assert lines == [f"t = {s}–{min(s + 2, 40)}" if s < 40 else "t = 40" for s in range(1, 41, 3)]
    first = [float(e[0]["data-rate"]) for e in elements(page, "bdi") if e[0].get("class") == "word"][2]
    assert first == pytest.approx(0.001)


def test_no_sentence_gives_an_index_that_says_so() -> None:
    assert "no sentence was asked for" in index_page([])


def test_only_special_tokens() -> None:
    """An empty text."""
    empty = Sentence(0, [SpokenWord("[CLS]", [0.1], True), SpokenWord("[SEP]", [0.2], True)], "x", ["y"], 1)
    assert empty.text == ""
    assert sentence_page(empty).count("data-rate") == 4
    assert words_over_time(empty).axes


def test_shading_ends_at_white_and_full_colour() -> None:
    scale = Shading.of([0.1, 0.3])
    assert (scale.colour(0.1), scale.colour(0.0), scale.colour(0.3)) == ("#ffffff", "#ffffff", "#0072b2")
    assert scale.colour(0.3) == scale.colour(0.9)
    assert Shading.of([0.2, 0.2]).colour(0.2) == "#ffffff"
    assert Shading.of([]).share(0.5) == 0.5


def test_the_picture_shows_the_rates() -> None:
    one = sentence()
    axes = words_over_time(one).axes[0]
    assert axes.images[0].get_array().tolist() == list(WORDS.values())
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [word.replace("🙂", "□") for word in WORDS]
    assert "prefix" in words_over_time(sentence(causal=False)).axes[0].get_xlabel()


SUMMARY = {
    "tokens": {
        "split": "test",
        "samples": 100,
        "causal": False,
        "places": [{"place": i, "texts": 100 - i, "rate": 0.1 + i / 100} for i in range(9)],
        "attention": [
            {"layer": f"e.{i}.att", "head": h, "correlation": 0.1 * h, "correlation_words": None}
            for i in range(2)
            for h in range(3)
        ],
        "decision_times": {"right": [60, 20, 10, 0], "wrong": [0, 4, 0, 6]},
        "most_active": [{"token": "film", "occurrences": 9, "rate": 0.3}],
        "least_active": [{"token": "|", "occurrences": 9, "rate": 0.1}],
    }
}


def test_the_report_of_tokens() -> None:
    figures = draw_analyses(SUMMARY, "bert on trec")
    assert set(figures) == {"spike_rate_by_place", "attention_and_spikes", "decision_times"}
    right, wrong = figures["decision_times"].axes[0].lines
    assert list(right.get_ydata()) == pytest.approx([6 / 9, 8 / 9, 1, 1])
    assert list(wrong.get_ydata()) == pytest.approx([0, 0.4, 0.4, 1])
    text, *others = analysis_sections(SUMMARY, lambda name, text: f"![{text}]({name})")
    assert not any(others)
    assert re.search(r"\| right +\| +90 \| +1\.4444 \| +1 \| +3 \|", text)
    assert re.search(r"\| wrong +\| +10 \| +3\.2000 \| +4 \| +4 \|", text)
    assert all(f"({name})" in text for name in figures)
    assert "*Prefix*" in text


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: the page is not opened in a browser")
    return found


_READ = """<script>
const shown = [...document.querySelectorAll('.word')].filter(e => e.getBoundingClientRect().width > 0).map(e => {
  const style = getComputedStyle(e);
  return [e.innerText, style.backgroundColor, style.color, e.getBoundingClientRect().top];
});
const read = {words: shown, text: document.body.innerText, wide: document.documentElement.scrollWidth};
const result = document.createElement('pre');
result.id = 'read';
result.textContent = JSON.stringify(read);
document.body.append(result);
</script>"""


def test_what_a_browser_shows(tmp_path: Path) -> None:
    """A copy of the page reads itself: what is laid out, in which colours."""
    page = tmp_path / "page.html"
    page.write_text(sentence_page(sentence()) + _READ, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,900"]
    done = subprocess.run(
        [chromium(), *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    ((_, text),) = [e for e in elements(done.stdout.decode(), "pre") if e[0].get("id") == "read"]
    read = json.loads(text)
    number = len(WORDS)
    assert [word[0] for word in read["words"]] == list(WORDS) * 5
    mean = Shading.of(w.rate for w in sentence().words if not w.special)
    times = Shading.of(r for w in sentence().words if not w.special for r in w.rate_per_timestep)
    for i, (_, background, ink, _) in enumerate(read["words"]):
        t, word = i // number - 1, sentence().words[i % number]
        rate, scale = (word.rate, mean) if t < 0 else (word.rate_per_timestep[t], times)
        assert rgb(background) == pytest.approx(of_hex(scale.colour(rate)), abs=1)
        assert contrast(rgb(background), rgb(ink)) > 4
    tops = [min(word[3] for word in read["words"][i : i + number]) for i in range(0, 5 * number, number)]
    assert tops == sorted(set(tops))  # one line below the other
    assert read["wide"] <= 1000  # nothing runs out of the window
    for said in (
        "Sample 7",
        "right: predicted good & bad",
        "decided at step 2 of 4",
        "t = 4",
        "0.100",
        "0.500",
        "0.800",
    ):
        assert said in read["text"], said


def rgb(css: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", css)[:3]]


def of_hex(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def contrast(one: list[int], other: list[int]) -> float:
    """Of WCAG 2."""

    def luminance(colour: list[int]) -> float:
        parts = [c / 255 for c in colour]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
