"""Synthetic recordings of shapes that move: what an event camera would see of them, made on the spot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snn.data.events_files import Events
from snn.data.events_schema import EventsConfig
from snn.data.events_sources import COLUMN
from snn.data.table import Source, Table

#: Pixels of the square sensor, glances at the scene, time between two of them in microseconds, events of noise.
SIDE, GLANCES, STEP, NOISE = 32, 48, 1000, 40
#: What a shape does is its class; which shape it is, whether it is brighter or darker than what is behind it, where it
#: starts and how fast it goes are chance. So no frame by itself tells the class.
MOTIONS = ["right", "left", "down", "up", "clockwise", "counter-clockwise", "growing", "shrinking"]
SHAPES = 3
ROWS = {"train": 2000, "validation": 400, "test": 400}


@dataclass(frozen=True)
class MovingShape:
    """One recording; the same every time.

    Args:
        split: Which set of rows it belongs to.
        row: Its number in it.
    """

    split: int
    row: int

    @property
    def motion(self) -> int:
        """Number of its class."""
        return self.row % len(MOTIONS)

    @property
    def name(self) -> str:
        return f"synthetic {self.split}.{self.row}"

    @property
    def key(self) -> str:
        return f"{self.name} version 1"

    def read(self, config: EventsConfig) -> Events:
        rng = np.random.default_rng([20_260_102, self.split, self.row])
        covered = self._covered(rng)
        change = np.diff(covered.astype(np.int8), axis=0)
        glance, y, x = np.nonzero(change)
        p = change[glance, y, x] > 0
        if rng.random() < 0.5:  # darker than what is behind it
            p = ~p
        t = glance * STEP + rng.integers(STEP, size=len(glance))
        noise = rng.integers((GLANCES * STEP, SIDE, SIDE, 2), size=(NOISE, 4)).T
        events = [np.concatenate([a.astype(np.int64), b]) for a, b in zip((t, x, y, p), noise)]
        order = np.argsort(events[0], kind="stable")
        return Events(*(values[order] for values in events))

    def _covered(self, rng: np.random.Generator) -> np.ndarray:
        """Which pixels the shape covers at each glance, ``[GLANCES + 1, SIDE, SIDE]``."""
        time = np.linspace(0, 1, GLANCES + 1)[:, None, None]
        radius: float | np.ndarray = rng.uniform(4, 7)
        x, y = rng.uniform(10, SIDE - 10, size=2)
        way = rng.uniform(8, 14)
        motion = MOTIONS[self.motion]
        if motion in ("right", "left", "down", "up"):
            along = (time - 0.5) * way * (1 if motion in ("right", "down") else -1)
            x, y = (x + along, y) if motion in ("right", "left") else (x, y + along)
        elif motion in ("growing", "shrinking"):
            share = time if motion == "growing" else 1 - time
            radius = 2 + share * (radius + 2)
        else:
            turn = 2 * np.pi * rng.uniform(0.5, 0.9) * time * (1 if motion == "clockwise" else -1)
            start, orbit = rng.uniform(0, 2 * np.pi), way / 2
            x, y = x + orbit * np.cos(start + turn), y + orbit * np.sin(start + turn)
        down, across = np.mgrid[:SIDE, :SIDE]
        dx, dy = np.abs(across - x), np.abs(down - y)
        shape = rng.integers(SHAPES)
        if shape == 0:
            return dx**2 + dy**2 < radius**2
        if shape == 1:
            return np.maximum(dx, dy) < 0.85 * radius
        return dx + dy < 1.2 * radius


def synthetic_events(cache_dir: object = None) -> Source:
    """2,000 recordings to train, 400 to validate, 400 to test, the same whatever the run's seed."""
    tables = {}
    for split, (name, rows) in enumerate(ROWS.items()):
        shapes = [MovingShape(split, row) for row in range(rows)]
        labels = [shape.motion for shape in shapes]
        tables[name] = Table({COLUMN: shapes, "label": labels}, f"synthetic_events:{name}")
    origin = "synthetic events, made on the spot: shapes that move, and what they do is the class"
    return Source(tables, origin, MOTIONS)
