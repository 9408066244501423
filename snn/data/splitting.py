"""Drawing rows: a subset, or a held-out share, with the classes in proportion."""

from __future__ import annotations

import numpy as np


def strata(labels: np.ndarray) -> np.ndarray:
    """What rows are drawn in proportion to: their classes or, for measurements, which tenth they are in.

    Example:
        >>> strata(np.arange(20.0)).tolist()[::5], strata(np.array([2, 0])).tolist()
        ([0, 2, 5, 7], [2, 0])
    """
    if labels.dtype.kind != "f":
        return labels
    rank = np.argsort(np.argsort(labels, kind="stable"), kind="stable")
    return rank * 10 // len(labels)


def stratified(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``count`` rows so that each class has its share, to within one row.

    Args:
        labels: Class numbers or measurements, ``[N]``.
        count: How many rows, at most N.
        rng: Source of randomness.

    Returns:
        Row numbers in rising order, so that a subset keeps the order of its file.

    Example:
        >>> labels = np.array([0] * 60 + [1] * 40)
        >>> np.bincount(labels[stratified(labels, 10, np.random.default_rng(0))])
        array([6, 4])
    """
    labels = strata(labels)
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    quota = np.floor(exact).astype(int)
    # What rounding down left over goes to the classes that lost most by it.
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, quota)]
    return np.sort(np.concatenate(drawn))


def held_out(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut rows in two: those that stay, and a share of them that is held out.

    The cut depends on the labels only, never on the run's seed: a checkpoint that is measured by another run
    must not meet rows in the test split that it was trained on.

    Args:
        labels: Class numbers or measurements, ``[N]``, N at least 2.
        fraction: Share to hold out; at least one row is held out, and at least one stays.
    """
    count = min(max(round(len(labels) * fraction), 1), len(labels) - 1)
    out = stratified(labels, count, np.random.default_rng(0))
    return np.setdiff1d(np.arange(len(labels)), out), out
