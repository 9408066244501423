"""Scores over time against scikit-learn and scipy, in batches of odd sizes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef

from snn.errors import ConfigError
from snn.evaluation.scores import Confusion, Scores, check_scores, matthews

SIZES = [[13], [1, 5, 7], [6, 6, 1]]


def cuts(sizes: list[int]) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(np.cumsum([0, *sizes]))]


def test_one_class_and_one_step() -> None:
    scores = Scores(["accuracy", "f1"], 1, 1)
    scores.update(torch.zeros(1, 3, 1), torch.zeros(3, dtype=torch.long))
    assert scores.compute() == {"accuracy": [1.0], "f1": [1.0]}
    assert scores.confusion().tolist() == [[3]]  # type: ignore[union-attr]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("classes", [2, 4, 20])  # 20 classes of 13 samples: some occur nowhere
def test_scores_of_classes(sizes: list[int], classes: int) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 13, classes)), rng.integers(0, classes, 13)
    scores = Scores(["matthews", "f1", "accuracy"], 5, classes)
    for part in cuts(sizes):
        scores.update(torch.tensor(logits[:, part]), torch.tensor(labels[part]))
    found = scores.compute()
    assert list(found) == ["matthews", "f1", "accuracy"]
    for t, predicted in enumerate(logits.argmax(-1)):
        average = "binary" if classes == 2 else "macro"
        assert found["accuracy"][t] == pytest.approx(accuracy_score(labels, predicted), abs=1e-12)
        assert found["matthews"][t] == pytest.approx(matthews_corrcoef(labels, predicted), abs=1e-12)
        expected = f1_score(labels, predicted, average=average, zero_division=0)
        assert found["f1"][t] == pytest.approx(expected, abs=1e-12)
    confusion = scores.confusion()
    assert confusion is not None
    expected = confusion_matrix(labels, logits[-1].argmax(-1), labels=range(classes))
    assert confusion.tolist() == expected.tolist()


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("steps", [1, 3])
def test_scores_of_measurements(sizes: list[int], steps: int) -> None:
    rng = np.random.default_rng(0)
    values, targets = rng.normal(size=(steps, 13, 1)), rng.integers(0, 5, 13).astype(float)
    scores = Scores(["pearson", "spearman"], steps, 1)
    for part in cuts(sizes):
        scores.update(torch.tensor(values[:, part]), torch.tensor(targets[part]))
    found = scores.compute()
    for t in range(steps):
        assert found["pearson"][t] == pytest.approx(pearsonr(values[t, :, 0], targets)[0], abs=1e-9)
        assert found["spearman"][t] == pytest.approx(spearmanr(values[t, :, 0], targets)[0], abs=1e-6)
    assert scores.confusion() is None


def test_predictions_that_are_all_equal_correlate_with_nothing() -> None:
    """As before the first spikes have arrived."""
    scores = Scores(["pearson", "spearman"], 2, 1)
    scores.update(torch.zeros(2, 4, 1), torch.arange(4.0))
    assert scores.compute() == {"pearson": [0.0, 0.0], "spearman": [0.0, 0.0]}
    assert matthews(torch.tensor([[[2, 0], [1, 0]]])).tolist() == [0.0]


@pytest.mark.parametrize("sizes", SIZES)
def test_predictions_that_differ_by_rounding_alone_correlate_with_nothing(sizes: list[int]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=13).astype(np.float32)
    same = np.nextafter(np.float32(1.4274303), np.where(labels > 0, np.float32(2), np.float32(1)))
    near = 1.4274303 + 1e-4 * labels
    scores = Scores(["pearson", "spearman"], 2, 1)
    for part in cuts(sizes):
        scores.update(torch.tensor(np.stack([same, near])[:, part, None]), torch.tensor(labels[part]))
    for found in scores.compute().values():
        assert found[0] == 0
        assert found[1] == pytest.approx(1, abs=1e-3)


def test_confusion_counts_exactly_however_many_samples() -> None:
    metric = Confusion(1, 2)
    metric.counts += 2**40
    metric.update(torch.tensor([[[0.0, 1.0]]]), torch.tensor([1]))
    assert int(metric.counts[0, 1, 1]) == 2**40 + 1
    assert metric._reductions["counts"] is not None


def test_metrics_that_do_not_fit_are_refused() -> None:
    check_scores(["f1", "accuracy"], "classification")
    with pytest.raises(
        ConfigError, match=r"dataset\.metrics: unknown metric 'acuracy'; did you mean .*accuracy"
    ):
        check_scores(["acuracy"], "classification")
    with pytest.raises(
        ConfigError, match=r"pearson is a metric of regression, but dataset\.task=classification"
    ):
        check_scores(["pearson"], "classification")
    with pytest.raises(ConfigError, match="name at least one of pearson, spearman"):
        check_scores([], "regression")
