"""What ``dataset.events`` may say: how recordings of an event camera are found, cut into frames, and varied."""

from __future__ import annotations

from dataclasses import dataclass, field

from snn.errors import DataError, did_you_mean

LAYOUTS = ("folders", "gesture", "shd")
BY = ("count", "time")
RESIZE = ("sum", "bilinear")
HELD_OUT = ("random", "last")
AUGMENT = ("none", "wide")


@dataclass
class EventsConfig:
    """Recordings of an event camera as frames of counts, one for each time step.

    Attributes:
        frames: Number of frames of a recording; null: T.
        by: ``count``: each frame has the same number of events, the last one what is left; ``time``: each covers the
            same time.
        sensor: Height and width of the sensor, in pixels.
        layout: ``folders``: a folder for each class, with ``.aedat`` (2.0 or 3.1), ``.bin``, ``.npz`` or ``.npy``
            files; ``gesture``: the recordings of DVS128 Gesture with their tables of labels; ``shd``: the two HDF5
            files of the Spiking Heidelberg Digits.
        resize: To ``dataset.image_size``: ``sum``: an event falls into the larger pixel that covers its own;
            ``bilinear``: frames of the sensor's size are interpolated, corner to corner.
        sort: Put events into the order of their time stamps where they are not, rather than refuse the file.
        held_out: Which recordings of each class are the test split where there is none: ``random``, or ``last`` in the
            order of their names.
        split_seed: Of ``random``.
        augment: ``wide``: each training recording is left as it is, sheared, moved, turned, or loses a square, all its
            frames alike.
        rotate: Training recordings are turned by up to so many degrees either way. 0: off.
    """

    frames: int | None = None
    by: str = "count"
    sensor: list[int] = field(default_factory=lambda: [128, 128])
    layout: str = "folders"
    resize: str = "sum"
    sort: bool = False
    held_out: str = "random"
    split_seed: int = 0
    augment: str = "none"
    rotate: float = 0.0

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            DataError: Names the key, what came and what was expected.
        """
        choices = {"layout": LAYOUTS, "by": BY, "resize": RESIZE, "held_out": HELD_OUT, "augment": AUGMENT}
        for key, known in choices.items():
            value = str(getattr(self, key))
            if value not in known:
                raise DataError(f"dataset.events.{key}: unknown name {value!r}; {did_you_mean(value, known)}")
        if self.frames is not None and self.frames < 1:
            raise DataError(f"dataset.events.frames={self.frames}: must be at least 1")
        if len(self.sensor) != 2 or min(self.sensor) < 1:
            raise DataError(f"dataset.events.sensor={list(self.sensor)}: height and width in pixels")
        if self.split_seed < 0:
            raise DataError(f"dataset.events.split_seed={self.split_seed}: must be 0 or more")
        if self.rotate < 0:
            raise DataError(f"dataset.events.rotate={self.rotate}: degrees, 0 or more")
