"""Early exit: against a search by hand, at its extremes, and how the threshold is chosen."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn.errors import ConfigError
from snn.evaluation.analyses import create_analysis
from snn.evaluation.early_exit import Curve, certainty, exit_curve, exit_times, thresholds_from
from snn.evaluation.read_out import ReadOuts

CRITERIA = ("margin", "entropy")


def drawn(steps: int = 5, samples: int = 40, classes: int = 3) -> ReadOuts:
    generator = torch.Generator().manual_seed(steps)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    logits = torch.randn(steps, samples, classes, generator=generator, dtype=torch.float64)
    growing = torch.arange(1, steps + 1)[:, None, None] * torch.nn.functional.one_hot(labels, classes)
    return ReadOuts(logits + 0.4 * growing, labels, torch.full_like(labels, steps))


def test_margin_and_entropy_by_hand() -> None:
    logits = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
    assert float(certainty(logits, "margin")) == pytest.approx(0.5)
    entropy = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    assert float(certainty(logits, "entropy")) == pytest.approx(-entropy)
    assert float(certainty(torch.tensor([0.0, 1e4]), "entropy")) == 0.0
    assert float(certainty(torch.zeros(4), "entropy")) == pytest.approx(-math.log(4))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=6), st.floats(0, 1.1))
def test_exit_times_against_a_search(certain: list[list[float]], threshold: float) -> None:
    values = torch.tensor(certain, dtype=torch.float64)
    (found,) = exit_times(values, torch.tensor([threshold], dtype=torch.float64)).tolist()
    for sample, time in enumerate(found):
        enough = [t for t, row in enumerate(certain, 1) if row[sample] >= threshold]
        assert time == (enough[0] if enough else len(certain))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_curve_goes_from_one_step_to_all(criterion: str) -> None:
    found = drawn()
    certain = certainty(found.logits, criterion)
    tried = thresholds_from(certain, 30)
    assert tried.tolist() == sorted(set(tried.tolist()))
    assert len(tried) == 31
    curve = exit_curve(found, criterion, tried, "accuracy")
    right = (found.logits.argmax(-1) == found.labels).double().mean(1)
    assert curve.mean_steps.tolist() == sorted(curve.mean_steps.tolist())
    assert float(curve.mean_steps[0]) == 1.0
    assert float(curve.scores[0]) == pytest.approx(float(right[0]))
    assert float(curve.mean_steps[-1]) == len(found.logits)
    assert float(curve.scores[-1]) == pytest.approx(float(right[-1]))
    for k, threshold in enumerate(tried.tolist()):
        times = exit_times(certain, torch.tensor([threshold], dtype=torch.float64))[0]
        said = torch.stack([found.logits[t - 1, i].argmax() for i, t in enumerate(times.tolist())])
        assert float(curve.scores[k]) == pytest.approx(float((said == found.labels).double().mean()))
        assert float(curve.mean_steps[k]) == pytest.approx(float(times.double().mean()))


def test_a_sample_that_has_settled_stops() -> None:
    """It would say the same at every later step, certain or not."""
    found = drawn()
    logits = found.logits.clone()
    logits[2:, 0] = 0.0  # not certain of anything from its third step on
    settled = found.settled.clone()
    settled[0] = 3
    never = torch.tensor([torch.inf], dtype=torch.float64)
    curve = exit_curve(ReadOuts(logits, found.labels, settled), "margin", never, "accuracy")
    samples, steps = len(settled), len(logits)
    assert float(curve.mean_steps) == pytest.approx((3 + steps * (samples - 1)) / samples)
    assert float(curve.scores) == pytest.approx(
        float((logits[-1].argmax(-1) == found.labels).double().mean())
    )


def test_one_step_has_nothing_to_choose() -> None:
    found = drawn(steps=1)
    tried = thresholds_from(certainty(found.logits, "margin"), 10)
    curve = exit_curve(found, "margin", tried, "accuracy")
    assert (tried.tolist(), curve.choose(0.1)) == ([math.inf], 0)


def curve(scores: list[float], steps: list[float]) -> Curve:
    thresholds: list[float] = [*range(len(scores) - 1), math.inf]
    return Curve(*(Tensor(x).double() for x in (thresholds, scores, steps)))


@pytest.mark.parametrize(
    ("tolerance", "chosen"),
    [(0.0, 3), (0.011, 2), (0.05, 1), (1.0, 0)],
)
def test_the_fewest_steps_within_the_tolerance(tolerance: float, chosen: int) -> None:
    assert curve([0.5, 0.86, 0.89, 0.9, 0.9], [1.0, 2.0, 3.0, 3.5, 4.0]).choose(tolerance) == chosen


def test_of_equals_the_most_careful_is_chosen() -> None:
    assert curve([0.9, 0.9, 0.9], [2.0, 2.0, 4.0]).choose(0.0) == 1


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"name": "early_exits"}, "analysis.name: unknown name 'early_exits'; did you mean 'early_exit'"),
        (
            {"name": "early_exit", "criteria": "margin"},
            "analysis.criteria: no such key; did you mean 'criter",
        ),
        ({"name": "early_exit", "criterion": "margins"}, "analysis.criterion: unknown name 'margins'"),
        ({"name": "early_exit", "tolerance": -1}, "analysis.tolerance must be at least 0; got -1"),
        ({"name": "early_exit", "thresholds": 0}, "analysis.thresholds must be at least 1; got 0"),
        ({"name": "early_exit", "thresholds": "many"}, "analysis.thresholds: .*'many'"),
        ({"name": "tokens", "pages": -1}, "analysis.pages must be at least 0; got -1"),
        ({"pages": 3}, "analysis.name: unknown name None"),
    ],
)
def test_what_is_refused(section: dict, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as error:
        create_analysis(section)
    assert "\n" not in str(error.value)


def test_no_section_is_no_analysis() -> None:
    assert create_analysis({}) is None
