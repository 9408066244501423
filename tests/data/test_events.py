"""Recordings of event cameras: files of every format as they really are, frames, splits, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn.data import load_dataset
from snn.data.events_augment import EventAugmentation
from snn.data.events_files import Events, read_aedat, read_bin, read_events
from snn.data.events_frames import slices, to_frames
from snn.data.events_schema import EventsConfig
from snn.data.events_synthetic import MOTIONS, MovingShape
from snn.data.schema import DatasetConfig
from snn.errors import DataError

SENSOR = (128, 128)


def events(count: int = 40, seed: int = 0, size: int = 128, last: int = 90_000) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last, size=count))
    return Events(t, *rng.integers(0, size, size=(2, count)), rng.integers(0, 2, size=count))


def equal(one: Events, other: Events) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in "txyp")


def aedat2(path: Path, e: Events, broken: bool = False) -> Path:
    """As jAER writes a DVS128: big-endian, columns from the right, rows from below, a one for darker."""
    address = (127 - e.y) << 8 | (127 - e.x) << 1 | (1 - e.p)
    body = np.stack([address, e.t], 1).astype(">u4").tobytes()
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + (body[:-3] if broken else body))
    return path


def aedat3(path: Path, e: Events, each: int = 16, cut: int = 0) -> Path:
    """As cAER writes: packets of polarity events, one of another kind in between, one event taken back."""
    raw = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    raw += struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
    for start in range(0, len(e), each):
        part = e.taken(slice(start, start + each))
        word = part.x << 17 | part.y << 2 | part.p << 1 | 1
        invalid = np.array([[5 << 17, part.t[-1]]])
        body = np.concatenate([np.stack([word, part.t], 1), invalid]).astype("<u4")
        raw += struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(body), len(body), len(part)) + body.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw[: len(raw) - cut])
    return path


def dot_bin(path: Path, e: Events, overflow_at: int | None = None) -> Path:
    """Five bytes each; an entry in row 240 lengthens the time of all that follow by 2**13 µs."""
    rows = []
    for i, (t, x, y, p) in enumerate(zip(e.t.tolist(), e.x.tolist(), e.y.tolist(), e.p.tolist())):
        if overflow_at is not None and i == overflow_at:
            rows.append(bytes([0, 240, 0, 0, 0]))
        t -= 2**13 if overflow_at is not None and i >= overflow_at else 0
        rows.append(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(rows))
    return path


def npz(path: Path, e: Events) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, t=e.t, x=e.x.astype(np.uint8), y=e.y.astype(np.uint8), p=e.p.astype(bool))
    return path


def npy(path: Path, e: Events) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.stack([e.x, e.y, e.p, e.t // 1000], 1))
    return path


@pytest.mark.parametrize(
    ("ending", "write"), [("2.aedat", aedat2), ("3.aedat", aedat3), (".bin", dot_bin), (".npz", npz)]
)
def test_every_format_gives_back_what_was_written(tmp_path: Path, ending: str, write: Any) -> None:
    e = events()
    assert equal(read_events(write(tmp_path / f"a{ending}", e), SENSOR), e)


def test_milliseconds_of_an_array(tmp_path: Path) -> None:
    e = events()
    read = read_events(npy(tmp_path / "0.npy", e), SENSOR)
    assert np.array_equal(read.t, e.t // 1000 * 1000)
    assert np.array_equal(read.x, e.x)


def test_time_that_overflows(tmp_path: Path) -> None:
    e = events(size=34)
    late = Events(e.t + np.where(np.arange(40) >= 25, 2**13, 0), e.x, e.y, e.p)
    assert equal(read_bin(dot_bin(tmp_path / "a.bin", late, overflow_at=25)), late)


def test_as_another_reader_reads_them(tmp_path: Path) -> None:
    tonic = pytest.importorskip("tonic", reason="tonic is not installed (it is in the extra «dev»)")
    e = events(size=34)
    path = dot_bin(tmp_path / "a.bin", e)
    theirs = tonic.io.read_mnist_file(str(path), dtype=np.dtype([(n, int) for n in "xytp"]))
    assert all(np.array_equal(getattr(read_bin(path), n), theirs[n]) for n in "xytp")
    frames = tonic.functional.to_frame_numpy(theirs, (34, 34, 2), n_event_bins=4)
    assert np.array_equal(to_frames(e, 4, "count", (34, 34)), frames)


REFUSED: list[tuple[str, Any, str]] = [
    ("a.aedat", lambda p: aedat2(p, events(), broken=True), "is cut short: 317 bytes of events are no multiple of 8"),
    ("a.aedat", lambda p: aedat3(p, events(), cut=3), "is cut short: a packet of"),
    ("a.aedat", lambda p: aedat3(p, events(), each=40, cut=41 * 8 + 10), "within the header of a packet"),
    ("a.aedat", lambda p: p.write_bytes(b"#!AER-DAT4.0\r\n"), "AEDAT version 4.0; readable: 2.0 and 3.1"),
    ("a.aedat", lambda p: p.write_bytes(b"#!AER-DAT2.0"), "cut short within its header"),
    ("a.aedat", lambda p: p.write_bytes(b"#!AER-DAT2.0\r\n"), "has no events"),
    ("a.bin", lambda p: p.write_bytes(bytes(7)), "is cut short: 7 bytes are no multiple of 5"),
    ("a.npz", lambda p: np.savez(p, t=[1], x=[1], p=[1]), "no array y; it holds t, x, p"),
    ("a.npz", lambda p: np.savez(p, t=[1, 2], x=[1], y=[1], p=[1]), "of one length"),
    ("a.npz", lambda p: p.write_bytes(b"PK"), "cannot be read"),
    ("a.npz", lambda p: np.savez(p, t=[3, 2], x=[1, 1], y=[1, 1], p=[0, 1]), "out of order: 2 µs after 3 µs (event 2)"),
    ("a.npz", lambda p: np.savez(p, t=[3], x=[128], y=[1], p=[0]), "column 128, outside of dataset.events.sensor=[128"),
    ("a.npz", lambda p: np.savez(p, t=[3], x=[1], y=[-1], p=[0]), "row -1"),
    ("a.npz", lambda p: np.savez(p, t=[3], x=[1], y=[1], p=[2]), "polarities run from 2 to 2"),
    ("a.npy", lambda p: np.save(p, np.zeros((3, 3))), "[N, 4]"),
    ("a.aedat4", lambda p: p.write_bytes(b"x"), "unknown kind of recording; readable: .aedat, .bin"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "words"), REFUSED, ids=[words for _, _, words in REFUSED])
def test_files_that_cannot_be(tmp_path: Path, name: str, write: Any, words: str) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError) as error:
        read_events(tmp_path / name, SENSOR)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_events_out_of_order_are_sorted_when_asked(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", t=[3, 2], x=[1, 7], y=[1, 1], p=[0, 1])
    assert read_events(tmp_path / "a.npz", SENSOR, sort=True).x.tolist() == [7, 1]


@pytest.mark.parametrize("by", ["count", "time"])
@pytest.mark.parametrize("frames", [1, 3, 7])
def test_every_event_is_in_one_frame(by: str, frames: int) -> None:
    e = events(size=20)
    counted = to_frames(e, frames, by, (20, 20))
    assert counted.shape == (frames, 2, 20, 20)
    assert counted.sum() == len(e)
    for i, slot in enumerate(slices(e, frames, by)):
        assert counted[slot, e.p[i], e.y[i], e.x[i]] >= 1
    if by == "count":
        assert counted.sum((1, 2, 3))[:-1].tolist() == [40 // frames] * (frames - 1)


def test_slices_of_equal_time() -> None:
    e = Events(*np.array([[0, 10, 49, 50, 99, 100]] * 4))
    assert slices(e, 2, "time").tolist() == [0, 0, 0, 1, 1, 1]


def test_fewer_pixels() -> None:
    e = events(size=20)
    summed = to_frames(e, 2, "time", (20, 20), size=10)
    whole = to_frames(e, 2, "time", (20, 20))
    assert np.array_equal(summed, whole.reshape(2, 2, 10, 2, 10, 2).sum((3, 5)))
    smooth = to_frames(e, 2, "time", (20, 20), size=10, resize="bilinear")
    assert smooth.dtype == np.float16
    assert smooth[0, 0, 0, 0] == whole[0, 0, 0, 0]
    assert smooth[0, 0, -1, -1] == whole[0, 0, -1, -1]


def config(folder: Path, **more: Any) -> DatasetConfig:
    about = {"frames": 4, "sensor": [34, 34], **more.pop("events", {})}
    defaults = {"splits": {"train": ".", "validation": None, "test": None}, "image_size": 16}
    settings = {**defaults, **more}
    return DatasetConfig(
        name="mine", kind="image", data_dir=str(folder), events=EventsConfig(**about), **settings
    )


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for number in range(20):
        dot_bin(tmp_path / "data" / "ab"[number % 2] / f"{number:02}.bin", events(seed=number, size=34))
    return tmp_path / "data"


def test_a_folder_of_classes(folders: Path, tmp_path: Path) -> None:
    data = load_dataset(config(folders), seed=0, cache_dir=tmp_path)
    assert data.label_names == ["a", "b"]
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 16,
        "validation": 2,
        "test": 2,
    }
    assert data.input_shape == (2, 16, 16)
    batch = next(iter(data.loader("train", 3)))
    assert batch["pixel_values"].shape == (3, 4, 2, 16, 16)
    assert batch["pixel_values"].sum((1, 2, 3, 4)).tolist() == [40.0] * 3
    again = load_dataset(config(folders), seed=5, cache_dir=tmp_path)
    assert again.fingerprint == data.fingerprint
    assert again.splits["test"].names == data.splits["test"].names
    other = load_dataset(config(folders, events={"split_seed": 3}), seed=0, cache_dir=tmp_path)
    assert other.splits["test"].names != data.splits["test"].names
    assert "seed 3" in other.source
    last = load_dataset(config(folders, events={"held_out": "last"}), seed=0, cache_dir=tmp_path)
    assert last.splits["test"].names == ["a/18.bin", "b/19.bin"]
    assert "the last of each" in last.source


def test_frames_are_kept_until_a_recording_changes(folders: Path, tmp_path: Path) -> None:
    data = load_dataset(config(folders), seed=0, cache_dir=tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "events").iterdir()}
    load_dataset(config(folders), seed=0, cache_dir=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "events").iterdir()} == kept
    name = data.splits["train"].names[0]
    dot_bin(folders / name, events(50, seed=99, size=34))
    changed = load_dataset(config(folders), seed=0, cache_dir=tmp_path)
    assert changed.fingerprint != data.fingerprint
    assert changed.splits["train"][0]["pixel_values"].sum() == 50


def test_splits_that_exist(tmp_path: Path) -> None:
    for split in ("Train", "Test"):
        for number in range(8):
            dot_bin(tmp_path / split / str(number % 4) / f"{number}.bin", events(seed=number, size=34))
    found = config(tmp_path, splits={"train": "Train", "validation": None, "test": "Test"})
    data = load_dataset(found, seed=0, cache_dir=tmp_path)
    assert len(data.splits["test"]) == 8
    assert data.label_names == ["0", "1", "2", "3"]


def test_recordings_of_several_gestures(tmp_path: Path) -> None:
    for user in (1, 2):
        e = events(300, seed=user, last=90_000)
        aedat3(tmp_path / f"user0{user}_led.aedat", e)
        rows = [f"{c},{30_000 * (c - 1)},{30_000 * c}" for c in (1, 2, 3)]
        table = tmp_path / f"user0{user}_led_labels.csv"
        table.write_text("\n".join(["class,startTime_usec,endTime_usec", *rows]))
    (tmp_path / "trials_to_train.txt").write_text("user01_led.aedat\n")
    (tmp_path / "trials_to_test.txt").write_text("user02_led.aedat\n")
    names = {"train": "trials_to_train", "validation": None, "test": "trials_to_test"}
    gesture = {"layout": "gesture", "sensor": [128, 128]}
    data = load_dataset(config(tmp_path, splits=names, events=gesture), seed=0, cache_dir=tmp_path)
    assert len(data.label_names) == 11
    test = data.splits["test"]
    assert test.labels.tolist() == [0, 1, 2]
    e = events(300, seed=2, last=90_000)
    inside = [int(((e.t >= a) & (e.t < a + 30_000)).sum()) for a in (0, 30_000, 60_000)]
    assert [int(test[i]["pixel_values"].sum()) for i in range(3)] == inside
    (tmp_path / "trials_to_test.txt").write_text("user09_led.aedat\n")
    with pytest.raises(DataError, match=r"trials_to_test.txt names user09_led.aedat, but .* does not exist"):
        load_dataset(config(tmp_path, splits=names, events=gesture), seed=0, cache_dir=tmp_path)


def test_gestures_that_have_been_cut_already(tmp_path: Path) -> None:
    for split in ("ibmGestureTrain", "ibmGestureTest"):
        for number in range(11):
            npy(tmp_path / split / "user01_led" / f"{number}.npy", events(seed=number))
    names = {"train": "ibmGestureTrain", "validation": None, "test": "ibmGestureTest"}
    gesture = {"layout": "gesture", "sensor": [128, 128]}
    data = load_dataset(config(tmp_path, splits=names, events=gesture), seed=0, cache_dir=tmp_path)
    assert data.splits["test"].labels.tolist() == list(range(11))


def test_spoken_digits(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (it is in the extra «events»)")
    for split in ("train", "test"):
        with h5py.File(tmp_path / f"shd_{split}.h5", "w") as file:
            rows = 12
            times = file.create_dataset("spikes/times", (rows,), h5py.vlen_dtype(np.float16))
            units = file.create_dataset("spikes/units", (rows,), h5py.vlen_dtype(np.uint16))
            for row in range(rows):
                times[row], units[row] = np.linspace(0, 0.5, 8), np.arange(0, 700, 88)[:8]
            file["labels"] = np.arange(rows) % 3
            file["extra/keys"] = np.array([b"zero", b"one", b"two"])
    names = {"train": "shd_train", "validation": None, "test": "shd_test"}
    about = config(tmp_path, splits=names, events={"layout": "shd", "sensor": [16, 16]})
    data = load_dataset(about, seed=0, cache_dir=tmp_path)
    assert set(data.label_names) == {"zero", "one", "two"}
    frames = data.splits["test"][0]["pixel_values"]
    assert frames.shape == (4, 2, 16, 16)
    assert frames.sum() == 8
    assert frames[:, 1].sum() == 4


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.data_dir: .* is no folder"):
        load_dataset(config(tmp_path / "none"), seed=0, cache_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"dataset.splits.train=\.: no recordings in"):
        load_dataset(config(tmp_path / "empty"), seed=0, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"events": {"by": "counts"}}, "dataset.events.by: unknown name 'counts'; did you mean 'count'"),
        ({"events": {"frames": 0}}, "dataset.events.frames=0"),
        ({"events": {"frames": None}}, "dataset.events.frames: give the number"),
        ({"events": {"sensor": [3]}}, "dataset.events.sensor=[3]"),
        ({"events": {"rotate": -1.0}}, "dataset.events.rotate=-1.0"),
        ({"events": {"split_seed": -1}}, "dataset.events.split_seed=-1"),
        ({"image_size": 40}, "dataset.image_size=40 is larger than dataset.events.sensor=[34, 34]"),
        ({"mean": [0.5]}, "dataset.mean=[0.5] is for pictures"),
    ],
)
def test_settings_that_cannot_work(folders: Path, tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as error:
        load_dataset(config(folders, **more), seed=0, cache_dir=tmp_path)
    assert words in str(error.value)


def test_a_variant_depends_on_seed_epoch_and_row_alone() -> None:
    about = config(Path("."), augment_flip=True, augment_crop=2, events={"augment": "wide", "rotate": 15.0})
    clips = torch.rand(40, 3, 2, 16, 16)
    rows = np.arange(40)
    changed = EventAugmentation(about, 0, 1, 40)(clips, rows)
    assert torch.equal(EventAugmentation(about, 0, 1, 40)(clips[5:7], rows[5:7]), changed[5:7])
    assert not torch.equal(EventAugmentation(about, 0, 2, 40)(clips, rows), changed)
    assert not torch.equal(EventAugmentation(about, 1, 1, 40)(clips, rows), changed)
    assert changed.shape == clips.shape


def test_all_frames_of_a_recording_change_alike() -> None:
    about = config(Path("."), augment_flip=True, events={"augment": "wide"})
    clip = torch.rand(1, 2, 16, 16).expand(4, 2, 16, 16)
    kinds = set()
    for row in range(60):
        changed = EventAugmentation(about, 0, 0, 60).changed(clip, row)
        assert all(torch.equal(frame, changed[0]) for frame in changed)
        same = torch.equal(changed, clip) or torch.equal(changed, clip.flip(-1))
        kinds.add("same" if same else "square" if changed.sum() < clip.sum() * 0.99 else "moved")
    assert kinds >= {"same", "square"}
    assert not EventAugmentation.wanted(config(Path(".")))


def test_synthetic_motion_is_what_it_says() -> None:
    about = EventsConfig(frames=2, by="time", sensor=[32, 32])
    for row in range(16):
        shape = MovingShape(0, row)
        e = shape.read(about)
        assert equal(e, shape.read(about))
        assert (np.diff(e.t) >= 0).all()
        early, late = e.t < e.t.max() / 4, e.t > e.t.max() * 3 / 4
        across = e.x[late].mean() - e.x[early].mean()
        down = e.y[late].mean() - e.y[early].mean()
        spread = (np.hypot(e.x - e.x.mean(), e.y - e.y.mean())[part].mean() for part in (early, late))
        before, after = spread
        motion = MOTIONS[shape.motion]
        if motion in ("right", "left"):
            assert (across > 0) == (motion == "right"), row
        if motion in ("down", "up"):
            assert (down > 0) == (motion == "down"), row
        if motion in ("growing", "shrinking"):
            assert (after > before) == (motion == "growing"), row
        if motion.endswith("clockwise"):
            bins = np.array_split(np.arange(len(e.t)), 6)
            x, y = (np.array([part[rows].mean() for rows in bins]) for part in (e.x, e.y))
            turn = np.diff(np.unwrap(np.arctan2(y - y.mean(), x - x.mean()))).sum()
            assert (turn > 0) == (motion == "clockwise"), row  # y points down


def test_the_synthetic_set_loads(tmp_path: Path) -> None:
    about = DatasetConfig(
        name="synthetic_events",
        kind="image",
        image_size=16,
        limit_train=24,
        limit_validation=16,
        limit_test=8,
        events=EventsConfig(frames=3, by="time", sensor=[32, 32]),
    )
    data = load_dataset(about, seed=0, cache_dir=tmp_path)
    assert data.label_names == MOTIONS
    assert np.bincount(data.splits["train"].labels).tolist() == [3] * 8
    assert "synthetic" in data.source
    assert next(iter(data.loader("test", 8)))["pixel_values"].shape == (8, 3, 2, 16, 16)


def test_a_header_of_the_camera_is_read(tmp_path: Path) -> None:
    """A comment may hold anything up to its end, but the first one says the version."""
    e = events()
    raw = aedat2(tmp_path / "a.aedat", e).read_bytes()
    (tmp_path / "c.aedat").write_bytes(raw.replace(b"# This", b"# \xff\x00 This", 1))
    assert equal(read_aedat(tmp_path / "c.aedat"), e)
    (tmp_path / "b.aedat").write_bytes(raw.replace(b"# This", b"#!AER-DAT? \xff # This", 1))
    with pytest.raises(DataError, match="AEDAT version"):
        read_aedat(tmp_path / "b.aedat")
