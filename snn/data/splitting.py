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


def held_out(labels: np.ndarray, fraction: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cut rows in two: those that stay, and a share of them that is held out.

    The cut depends on the labels only, never on the run's seed: a checkpoint that is measured by another run
    must not meet rows in the test split that it was trained on.

    Args:
        labels: Class numbers or measurements, ``[N]``, N at least 2.
        fraction: Share to hold out; at least one row is held out, and at least one stays.
        seed: Of the data set's, for another cut.
    """
    count = min(max(round(len(labels) * fraction), 1), len(labels) - 1)
    out = stratified(labels, count, np.random.default_rng(seed))
    return np.setdiff1d(np.arange(len(labels)), out), out


def last_of_each(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut rows in two: of each class the last ones are held out, at least one.

    Example:
        >>> stay, out = last_of_each(np.array([0, 1] * 5), 0.2)
        >>> out.tolist()
        [8, 9]
    """
    rows = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    out = np.sort(np.concatenate([own[-max(1, round(len(own) * fraction)) :] for own in rows]))
    return np.setdiff1d(np.arange(len(labels)), out), out
