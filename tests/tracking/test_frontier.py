"""Frontiers: which points they hold, what their figures and pages show, read from a browser where there is one."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn.checks import check
from snn.errors import ConfigError
from snn.tracking import RunFileError, write_sweep_report
from snn.tracking.dark import DARK
from snn.tracking.frontier import ENERGY, LATENCY, SPIKES, STEPS, Facet, facets, marker_name, names_of, pareto
from snn.tracking.frontier_figures import score_over_cost
from snn.tracking.style import COLUMN, CYCLE, to_svg
from snn.tracking.sweep_jobs import Job, read_jobs, to_csv
from snn.tracking.sweep_report import report_again
from tests.scripts.composing import composed

from .summaries import make_job, summary
from .test_figures import no_overlap, texts
from .test_token_page import chromium, contrast, elements, of_hex, rgb

ROOT = Path(__file__).parents[2]


def job(neuron: str = "para_inf", T: int = 4, score: float = 0.8, **facts: Any) -> Job:
    """A finished job of a sweep."""
    known = {
        "model": "bert",
        "dataset": "trec",
        "metric": "accuracy",
        "samples": 500,
        "neuron": neuron,
        "T": T,
        "spiking": score,
        "spikes per sample": 1e5 * T,
        "command": f"python evaluate.py neuron={neuron} T={T}",
    }
    return Job(f"{neuron}-{T}", {"neuron": neuron, "T": str(T)}, "finished", known | facts)


def jobs() -> list[Job]:
    return [
        job(neuron, T, 0.9 - 0.3 / T - lost, **{"float": 0.95, "quantised": 0.9 - 0.3 / T})
        for neuron, lost in (("para_inf", 0.0), ("integrate_fire", 0.02))
        for T in (1, 2, 4, 16)
    ]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_pareto_set_is_what_its_definition_says(points: list[tuple[int, int]]) -> None:
    best = set(pareto(points))
    for i, (cost, score) in enumerate(points):
        beaten = [
            other for other in points if other[0] <= cost and other[1] >= score and other != (cost, score)
        ]
        assert (i in best) == (not beaten)
    assert bool(best) == bool(points)


def test_points_are_means_over_seeds_and_know_their_costs() -> None:
    runs = [job(score=score, seed=0, **{"energy (µJ)": 10.0 + i}) for i, score in enumerate((0.7, 0.8, 0.9))]
    (facet,) = facets(runs)
    (point,) = facet.points
    assert (point.score, point.scores) == (pytest.approx(0.8), (0.7, 0.9))
    assert point.costs["energy (µJ)"] == 11
    assert facet.costs == [STEPS, SPIKES, ENERGY]
    assert facet.on_frontier(runs[1]) == [STEPS, SPIKES, ENERGY]


def test_a_job_whose_samples_may_stop_early_is_a_point_more() -> None:
    exit_facts = {"early exit score": 0.79, "early exit steps": 2.5, "early exit energy (µJ)": 6.0}
    costs = {"energy (µJ)": 10.0, "latency (ms)": 1.0}
    runs = [job("st_bif", 8, 0.8, **costs, **exit_facts), job("st_bif", 4, 0.7, **costs)]
    (facet,) = facets(runs)
    assert facet.labels == ["st_bif", "st_bif, early exit"]
    (exited,) = facet.series("st_bif, early exit")
    assert (exited.T, exited.score, exited.costs) == (2.5, 0.79, {"T": 2.5, "energy (µJ)": 6.0})
    # Spikes and time of the early exit are not known, which takes them from no other point.
    assert facet.costs == [STEPS, SPIKES, ENERGY, LATENCY]
    assert exited in facet.frontier(ENERGY)
    assert exited not in facet.knowing(LATENCY).points
    assert facet.on_frontier(runs[0]) == [STEPS, SPIKES, ENERGY, LATENCY]
    for cost in facet.costs:
        drawn = ET.tostring(ET.fromstring(to_svg(score_over_cost(facet, cost))), "unicode")
        assert (marker_name(cost, 2) in drawn) == (cost in (STEPS, ENERGY))


def test_a_cost_that_one_job_does_not_know_is_no_axis() -> None:
    (facet,) = facets([job(T=1, **{"latency (ms)": 1.0}), job(T=2)])
    assert LATENCY not in facet.costs
    both = [job(T=t, **{"latency (ms)": 1.0, "evaluation (ms)": 5.0}) for t in (1, 2)]
    assert [cost for cost in facets(both)[0].costs if cost.key == "time"] == [LATENCY]
    both[0].facts.pop("latency (ms)")  # then all points have to be read on the clock that all of them know
    assert [cost.fact for cost in facets(both)[0].costs if cost.key == "time"] == ["evaluation (ms)"]


def test_other_data_sets_metrics_and_splits_are_other_facets() -> None:
    found = facets([job(), job(dataset="cola", metric="matthews"), job(T=8)])
    assert [(f.dataset, f.metric, len(f.points)) for f in found] == [
        ("trec", "accuracy", 2),
        ("cola", "matthews", 1),
    ]
    apart = facets([job(split="test"), job(split="validation")])
    assert [f.dataset for f in apart] == ["trec (test)", "trec (validation)"]
    fewer = facets([job(), job(T=8, samples=100), job(dataset="sst2")])
    assert [f.dataset for f in fewer] == ["trec (500 samples)", "trec (100 samples)", "sst2"]


def test_jobs_that_did_not_finish_are_no_points() -> None:
    broken = job(T=8, score=0.99)
    broken.status = "interrupted"
    (facet,) = facets([job(), broken, Job("x", {}, "failed")])
    assert [p.T for p in facet.points] == [4]


def test_names_say_what_differs_and_nothing_else() -> None:
    assert names_of(jobs())[::4] == ["para_inf", "integrate_fire"]
    one, other, third = job(order="early"), job(order="even"), job("st_bif")
    assert names_of([one, other, third]) == ["para_inf (early)", "para_inf (even)", "st_bif"]
    assert names_of([other, third]) == ["para_inf", "st_bif"]
    one, other = job(), job()
    one.overrides |= {
        "quantization.coverage": "full",
        "seed": "0",
        "training.float.epochs": "1",
        "device": "cpu",
    }
    other.overrides |= {"quantization.coverage": "ffn", "seed": "1", "training.float.epochs": "2"}
    assert names_of([one, other]) == ["coverage=full", "coverage=ffn"]
    other.overrides |= {"quantization.coverage": "full", "seed": "0"}
    assert names_of([one, other]) == ["epochs=1", "epochs=2"]


def line_of(figure: Any, label: str) -> Any:
    return next(line for line in figure.axes[0].lines if line.get_label() == label)


def test_a_figure_draws_a_line_for_each_network_and_rings_the_pareto_set() -> None:
    (facet,) = facets(jobs())
    figure = score_over_cost(facet, STEPS, subtitle="bert on trec")
    axes = figure.axes[0]
    assert figure.get_size_inches()[0] == COLUMN
    curve = line_of(figure, "para_inf")
    assert list(curve.get_xdata()) == [1, 2, 4, 16]
    assert list(curve.get_ydata()) == pytest.approx([0.6, 0.75, 0.825, 0.88125])
    rings = next(line for line in axes.lines if line.get_gid() == "pareto")
    assert list(rings.get_ydata()) == pytest.approx([0.6, 0.75, 0.825, 0.88125])
    figure.canvas.draw()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "16"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("T (time steps)", "accuracy (%)")
    assert {"para_inf", "integrate_fire", "float ANN\n95.0 %"} <= set(texts(figure))
    # It differs from T to T, so a line for it would be wrong.
    assert not any("quantised" in text for text in texts(figure))
    assert no_overlap(figure, axes)


def test_energy_shows_the_networks_without_spikes_where_they_are() -> None:
    runs = jobs()
    for one in runs:
        T = one.facts["T"]
        one.facts |= {
            "energy (µJ)": 100.0 * T,
            "float energy (µJ)": 900.0,
            "quantised energy (µJ)": 200.0 + T,
        }
    (facet,) = facets(runs)
    assert facet.twins()["float ANN"] == [(900.0, 0.95)]
    assert len(facet.twins()["quantised ANN"]) == 4
    figure = score_over_cost(facet, ENERGY)
    assert {"float ANN", "quantised ANN"} <= set(texts(figure))
    assert "µJ" in figure.axes[0].get_xlabel()
    low, high = figure.axes[0].get_xlim()
    assert low < 100
    assert high > 1600
    assert no_overlap(figure, figure.axes[0])


def test_seeds_have_bars_from_lowest_to_highest() -> None:
    (facet,) = facets([job(T=t, score=s) for t in (1, 2) for s in (0.5, 0.7)])
    bars = score_over_cost(facet, STEPS).axes[0].containers[0]
    assert bars.lines[2][0].get_segments()[0][:, 1].tolist() == pytest.approx([0.5, 0.7])


def test_many_long_labels_stay_on_the_page() -> None:
    runs = []
    for one in jobs():
        for order in ("early", "late", "even"):
            for coverage in ("full", "ffn"):
                overrides = {**one.overrides, "neuron.order": order, "quantization.coverage": coverage}
                runs.append(Job(one.name, overrides, "finished", one.facts | {"order": order}))
    (facet,) = facets(runs)
    assert len(facet.labels) == 12
    figure = score_over_cost(facet, STEPS)
    assert no_overlap(figure, figure.axes[0])


def test_of_too_many_networks_those_of_the_pareto_set_have_colours() -> None:
    runs = [job(T=t, score=0.5 + t / 100 + n / 1000) for n in range(20) for t in (1, 2)]
    for number, one in enumerate(runs):
        one.overrides["quantization.rows"] = str(number // 2)
    (facet,) = facets(runs)
    figure = score_over_cost(facet, STEPS)
    assert [t for t in texts(figure) if "rows=" in t] == ["rows=19"]
    assert any("in grey: 19 more networks" in " ".join(t.split()) for t in texts(figure))
    assert len({line.get_label() for line in figure.axes[0].lines if "rows=" in str(line.get_label())}) == 20


def test_a_facet_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="no finished job"):
        score_over_cost(Facet("trec", "accuracy"), STEPS)


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_lines_can_be_told_from_their_ground_and_text_can_be_read(ground: str) -> None:
    def shown(colour: str) -> list[int]:
        return of_hex(colour.lower() if ground == "light" else DARK[colour.lower()])

    paper = shown("#ffffff")
    for colour in CYCLE:
        assert contrast(shown(colour), paper) > 2, colour
    for text in ("#1a1a1a", "#444444", "#767676"):
        assert contrast(shown(text), paper) > 4.5, text


def test_every_colour_of_a_figure_has_a_dark_twin() -> None:
    runs = [
        job(f"neuron{n}", t, 0.5 + t / 20 + n / 90, **{"float": 0.9}) for n in range(8) for t in (1, 2, 4)
    ]
    svg = to_svg(score_over_cost(facets(runs)[0], STEPS, subtitle="x"))
    drawn = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    assert {c.lower() for c in re.findall(r"#[0-9a-fA-F]{6}\b", drawn)} <= set(DARK)
    assert "prefers-color-scheme: dark" in svg
    ET.fromstring(svg)


def test_a_report_can_be_made_from_the_table_of_another(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "results.csv").write_bytes((sweep / "results.csv").read_bytes())
    before, after = read_jobs(sweep), read_jobs(tmp_path / "kept")
    assert to_csv([Job(j.name, j.overrides, j.status, j.facts, None, j.error) for j in before]) == to_csv(
        after
    )
    report_again(str(tmp_path / "kept"), tmp_path / "new")
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["results.csv"]
    for name in ("accuracy_over_T.svg", "accuracy_over_energy.svg"):
        assert (tmp_path / "new" / "figures" / name).read_bytes() == (sweep / "figures" / name).read_bytes()


def result(neuron: str, T: int, score: float, **changes: Any) -> dict[str, Any]:
    made = summary(layers=None, verification=None, attribution=None, neuron=neuron, T=T, **changes)
    spikes = 1e5 * T * (1 + (neuron == "integrate_fire"))
    made["results"]["spiking"] |= {"T": T, "metrics": {"accuracy": score}, "spikes_per_sample": spikes}
    made["command"] = f"python evaluate.py neuron={neuron} T={T} name='<&>'"
    networks = [{"energy_uj": energy} for energy in (900.0, 100.0, 40.0 * T)]
    return made | {"energy": {"networks": networks, "profile": {"name": "horowitz_45nm"}}}


def written(folder: Path) -> Path:
    """A sweep of seven jobs, of which one failed, one still runs and one was interrupted, with its report."""
    number = 0
    for neuron, lost in (("para_inf", 0.0), ("integrate_fire", 0.05)):
        for T in (1, 4, 16):
            contents: dict[str, Any] | None = result(neuron, T, 0.5 + T / 100 - lost)
            if number == 4:
                contents = {"status": "failed", "error": "ConfigError: neuron: got <x>, expected y"}
            if number == 5:
                contents = None
            make_job(folder, str(number), ["model=bert", f"neuron={neuron}", f"T={T}"], contents)
            number += 1
    late = result("para_inf", 64, 0.99) | {"status": "interrupted"}
    make_job(folder, "6", ["model=bert", "neuron=para_inf", "T=64"], late)
    (folder / "0" / "report.md").write_text("")
    write_sweep_report(folder)
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("frontier"))


def test_the_page_needs_nothing_else_and_says_all(sweep: Path) -> None:
    page = (sweep / "index.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(\s*["']?http""", page)
    rows = re.findall(r'<tr id="job-(\d+)">(.*?)</tr>', page, re.S)
    assert [number for number, _ in rows] == [str(n) for n in range(7)]
    for number in (0, 1, 2, 3, 6):
        assert "python evaluate.py neuron=" in rows[number][1]
        assert "name=&#x27;&lt;&amp;&gt;&#x27;" in rows[number][1]
    assert '<span class="bad">failed</span>' in rows[4][1]
    assert '<span class="bad">unfinished</span>' in rows[5][1]
    assert '<a href="0/report.md">' in rows[0][1]
    assert "got &lt;x&gt;, expected y" in page
    assert "7 jobs: 4 finished, 1 failed, 1 interrupted, 1 unfinished" in page
    assert "0.99" in rows[6][1]
    for key in ("T", "spikes", "energy"):
        assert set(re.findall(rf'<g id="point-{key}-\d+" data-jobs="job-(\d+)"', page)) == {
            "0",
            "1",
            "2",
            "3",
        }
    ET.fromstring(re.findall(r"<svg.*?</svg>", page, re.S)[0])


def test_the_table_marks_the_pareto_set_of_each_cost(sweep: Path) -> None:
    page = (sweep / "report.md").read_text()
    marks = re.findall(r"^\| \[?(\d).*\| (\S[^|]*\S|–) +\| (\w+) +\|$", page, re.M)
    assert marks[:4] == [
        ("0", "T, spikes, energy", "finished"),
        ("1", "T, spikes, energy", "finished"),
        ("2", "T, spikes, energy", "finished"),
        ("3", "–", "finished"),
    ]
    assert "horowitz_45nm" not in page  # the same for all jobs, so it is no column
    with (sweep / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["energy profile"] for row in rows[:4]} == {"horowitz_45nm"}
    assert [float(row["energy (µJ)"]) for row in rows[:3]] == [40.0, 160.0, 640.0]


def test_several_sweeps_and_a_single_run_are_one_report(sweep: Path, tmp_path: Path) -> None:
    run = make_job(tmp_path, "alone", ["neuron=st_bif"], result("st_bif", 32, 0.8, model="roberta"))
    report = write_sweep_report([sweep, run], tmp_path / "out")
    names = [job.name for job in report.jobs]
    assert names[0] == f"{sweep.name}/0"
    assert names[-1] == "alone"
    (facet,) = facets(report.jobs)
    assert facet.labels == ["bert, para_inf", "bert, integrate_fire", "roberta, st_bif"]
    text = report.path.read_text()
    assert f"# Sweep {sweep.name} and alone" in text
    assert "0/report.md)" in text  # found from where the report is
    with pytest.raises(ValueError, match="say where"):
        write_sweep_report([sweep, run])


def test_a_report_is_written_again_into_its_sweep(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (sweep / "index.html").read_text()
    (sweep / "index.html").unlink()
    assert report_again(str(sweep), tmp_path / "elsewhere") == 3
    assert (sweep / "index.html").read_text() == before
    assert not (tmp_path / "elsewhere").exists()
    assert str(sweep / "index.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ("", "is empty, so it is no table"),
        ("job,T\n0,4\n", "has no column spiking, metric, status"),
        ("T,spiking,metric,status\nfour,0.5,accuracy,finished\n", "line 2: could not convert"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, contents: str, expected: str) -> None:
    (tmp_path / "results.csv").write_text(contents)
    with pytest.raises(RunFileError, match=expected):
        read_jobs(tmp_path)


def test_folders_without_jobs_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        RunFileError, match=r"holds no job: no folder below it has \.hydra/overrides\.yaml, and"
    ):
        write_sweep_report(tmp_path)
    with pytest.raises(RunFileError, match="is no folder; expected a sweep"):
        read_jobs(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("script", "report", "expected"),
    [
        (
            "evaluate",
            "nowhere/at_all",
            "report=nowhere/at_all: there is no such folder; expected a folder such as",
        ),
        ("evaluate", "[]", "report must be a folder such as"),
        ("evaluate", "3", "report must be a folder such as .*got 3"),
        ("train", ".", r"report is a key of evaluate.py; got it for train\.py"),
    ],
)
def test_reports_that_cannot_be(script: str, report: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        check(composed(script, f"+report={report}" if script == "train" else f"report={report}"), script)


def test_a_report_needs_no_checkpoint(sweep: Path) -> None:
    check(composed("evaluate", f"report={sweep}"), "evaluate")
    check(composed("evaluate", f"report=[{sweep},{sweep}]"), "evaluate")


_READ = """<script>
const colour = (element, name) => getComputedStyle(element)[name];
document.querySelectorAll("th button")[COLUMN].click();
document.querySelectorAll("th button")[COLUMN].click();
const order = [...document.querySelectorAll("tbody tr")].map(row => row.id);
document.querySelector('g[id="point-spikes-3"]').dispatchEvent(new MouseEvent("click"));
const box = element => { const b = element.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]; };
const read = {
  order, text: document.body.innerText, wide: document.documentElement.scrollWidth,
  ink: colour(document.body, "color"), paper: colour(document.body, "backgroundColor"),
  figures: [...document.querySelectorAll(".figures svg")].map(svg => ({
    box: box(svg), ground: colour(svg.querySelector("#patch_1 path"), "fill"),
    title: svg.textContent, points: [...svg.querySelectorAll('g[id^="point-"]')].map(g => [g.id, ...box(g)]),
    text: colour([...svg.querySelectorAll("text")].at(-1), "fill"),
  })),
  chosen: [...document.querySelectorAll("tr.chosen")].map(row => row.id),
  open: [...document.querySelectorAll("details[open]")].map(d => d.closest("tr").id),
};
const result = document.createElement("pre");
result.id = "read";
result.textContent = JSON.stringify(read);
document.body.append(result);
</script>"""


def browsed(folder: Path, page: str, scheme: str, column: int = 0, width: int = 1000) -> dict[str, Any]:
    """What a browser makes of a copy of the page that reads itself."""
    path = folder / f"{scheme}.html"
    path.write_text(page + _READ.replace("COLUMN", str(column)), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    flags.append(f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}")
    done = subprocess.run(
        [chromium(), *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    ((_, text),) = [e for e in elements(done.stdout.decode(), "pre") if e[0].get("id") == "read"]
    return json.loads(text)


REFERENCE = ROOT / "multirun" / "reference"


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("*/index.html")), ids=lambda page: page.parent.name)
def test_the_committed_pages_show_their_tables(page: Path, tmp_path: Path) -> None:
    jobs = read_jobs(page.parent)
    read = browsed(tmp_path, page.read_text(), "light", width=1200)
    assert sorted(read["order"]) == sorted(f"job-{i}" for i in range(len(jobs)))
    assert len(read["figures"]) == sum(len(facet.costs) for facet in facets(jobs))
    assert f"{len(jobs)} jobs: {len(jobs)} finished" in read["text"]
    for one in jobs:
        assert f"{one.facts['spiking']:.4f}" in read["text"]
    assert read["wide"] <= 1200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_a_browser_shows(sweep: Path, tmp_path: Path, scheme: str) -> None:
    page = (sweep / "index.html").read_text()
    heads = re.findall(r'<th[^>]*><button type="button">(.*?)</button>', page)
    read = browsed(tmp_path, page, scheme, heads.index("spiking accuracy"))
    # Sorted downwards, what is not known last.
    assert read["order"][:5] == ["job-6", "job-2", "job-1", "job-0", "job-3"]
    assert set(read["order"][5:]) == {"job-4", "job-5"}
    assert read["wide"] <= 1000  # nothing runs out of the window
    assert contrast(rgb(read["ink"]), rgb(read["paper"])) > 7
    assert (sum(rgb(read["paper"])) > 600) == (scheme == "light")
    assert len(read["figures"]) == 3
    for figure, title in zip(read["figures"], ("time steps", "spikes", "energy")):
        assert f"Accuracy over {title}" in figure["title"]
        assert rgb(figure["ground"]) == rgb(read["paper"])
        assert contrast(rgb(figure["text"]), rgb(figure["ground"])) > 4.5
        left, right, top, bottom = figure["box"]
        assert len(figure["points"]) == 4
        for _, x0, x1, y0, y1 in figure["points"]:
            assert left < x0 < x1 < right
            assert top < y0 < y1 < bottom
    first = {name: box for name, *box in read["figures"][0]["points"]}
    (facet,) = facets(read_jobs(sweep))
    places = [first[marker_name(STEPS, i)] for i in range(4)]
    for (x0, _, _, y1), point in zip(places, facet.points):
        for (other_x0, _, _, other_y1), other in zip(places, facet.points):
            assert (x0 < other_x0) == (point.T < other.T) or abs(x0 - other_x0) < 1
            assert (y1 > other_y1) == (point.score < other.score) or abs(y1 - other_y1) < 1
    assert read["chosen"] == ["job-3"]
    assert read["open"] == ["job-3"]
    for said in (
        "7 jobs: 4 finished",
        "python evaluate.py neuron=integrate_fire T=1",
        "Pareto set",
        "unfinished",
    ):
        assert said in read["text"], said
