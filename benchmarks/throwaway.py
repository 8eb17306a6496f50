"""Other people's packages in an environment of their own, thrown away with its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

INSTALL_S = 300


class NotHere(Exception):
    """A package cannot be run on this machine; the text says why."""


def environ() -> dict[str, str]:
    """This process's environment without the way to our own modules."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def install(folder: Path, package: str) -> Path:
    """The `bin` folder of a new environment with the package. Raises NotHere."""
    programs = folder / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "--disable-pip-version-check"]
    _run(package, [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")])
    _run(package, [*pip, "install", "--quiet", package])
    return programs


def install_into(folder: Path, package: str) -> Path:
    """The package and nothing that it depends on, in a folder for PYTHONPATH. Raises NotHere."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    _run(package, [*pip, "--only-binary", ":all:", "--upgrade", "--target", str(folder), package])
    return folder


def _run(package: str, *commands: list[str]) -> None:
    for command in commands:
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_S, env=environ())
        except subprocess.CalledProcessError as error:
            last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise NotHere(f"{package} cannot be installed: {' '.join(last)[:200]}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotHere(f"{package} cannot be installed: {type(error).__name__}") from error
