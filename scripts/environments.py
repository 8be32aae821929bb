"""Virtual environments of their own, for installing wheels: the toolchain is linked from this one's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ROOT", "Environment", "wheel"]

ROOT = Path(__file__).resolve().parents[1]
# this checkout's own distributions: an environment has of them what is installed there, and nothing else
_OWN = ("quanthost", "__editable__")
_PIP = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-build-isolation")
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "core", "src")


class Environment:
    """A virtual environment with the packages that this one has, but for quanthost and its plugins.

    Packages are links, since torch and ExecuTorch take gigabytes; pip sees them as installed.
    """

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"

    @classmethod
    def make(cls, folder: Path, *, clear: bool = False, without: Sequence[str] = ()) -> Environment:
        """A new one, in place of what is in the folder if ``clear``.

        ``without`` names import packages and distributions that are not linked.
        """
        venv.create(folder, symlinks=True, clear=clear)
        made = cls(folder)
        site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            own = entry.name.startswith((*_OWN, "__pycache__"))
            if not own and entry.name.partition("-")[0] not in without:
                (site / entry.name).symlink_to(entry)
        return made

    def install(self, *distributions: str) -> None:
        """What ``pip install`` takes, ``--editable`` too; requirements must be met by what is there."""
        self.run([self.python, "-m", "pip", "install", *_PIP, *distributions])

    def run(
        self, command: Sequence[str], *, folder: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with this environment active; its output is returned as text.

        Raises:
            RuntimeError: it failed, and ``check`` is set; the message has its output.
        """
        # a shell finds a program in an active environment first
        own = self.bin / command[0]
        words = [str(own) if own.exists() else command[0], *command[1:]]
        done = subprocess.run(
            words, cwd=folder, env=self._variables(), capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode:
            said = f"{done.stdout}{done.stderr}"
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{said}")
        return done

    @property
    def python(self) -> str:
        return str(self.bin / "python")

    def _variables(self) -> dict[str, str]:
        dropped = ("PYTHONPATH", "PYTHONHOME", "QUANTHOST_BACKENDS")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        path = os.pathsep.join((str(self.bin), kept.get("PATH", os.defpath)))
        return {**kept, "PATH": path, "VIRTUAL_ENV": str(self.bin.parent), "COLUMNS": "100"}


def wheel(source: Path, folder: Path) -> Path:
    """The wheel of a distribution, built in the folder from a copy of its sources by the setuptools of here.

    Raises:
        RuntimeError: pip failed; the message has its output.
    """
    copy = folder / "sources" / source.resolve().name
    copy.mkdir(parents=True)
    for name in _SOURCES:
        entry = source / name
        if entry.is_dir():
            shutil.copytree(entry, copy / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        elif entry.exists():
            shutil.copy2(entry, copy)
    made = folder / "wheels" / copy.name
    command = [sys.executable, "-m", "pip", "wheel", *_PIP, "--no-deps", "--wheel-dir", str(made), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"no wheel of {source}\n{done.stdout}{done.stderr}")
    (built,) = made.glob("*.whl")
    return built
