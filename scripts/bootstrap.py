"""Makes the checkout's virtual environment: toolchain, host, plugins, tools."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / "installed"
PYTHON = VENV / "bin" / "python"


def plugins() -> list[Path]:
    """Folders of the plugins, each a distribution of its own."""
    return sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def networks() -> tuple[Path, Path]:
    """The requirements of the networks that tests and benchmarks lower; the second's come without theirs."""
    folder = ROOT / "benchmarks"
    return folder / "requirements.txt", folder / "requirements-no-deps.txt"


def fingerprint() -> str:
    """Digest of everything that decides what gets installed."""
    manifests = (folder / "pyproject.toml" for folder in (ROOT, *plugins()))
    inputs = (Path(__file__), *manifests, *networks())
    summed = hashlib.sha256(sys.version.encode())
    for path in inputs:
        summed.update(path.read_bytes())
    return summed.hexdigest()


def toolchain() -> list[str]:
    """The pinned torch, torchao and executorch; the extra of this name allows more releases."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    return list(groups["toolchain"])


def pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)


def install() -> None:
    """Fill the environment; a step that is done already costs pip a look."""
    if not PYTHON.exists():
        say("making .venv")
        venv.create(VENV, with_pip=True)
    # the first pip that installs dependency groups
    pip("--upgrade", "pip>=25.1")
    say("installing " + " and ".join(toolchain()) + " (several minutes the first time)")
    # one command: torch chosen without the pin, in a step of its own, would bring the CUDA libraries
    pip(*toolchain())
    say("installing quanthost, its plugins and the tools")
    editable = [argument for plugin in plugins() for argument in ("--editable", str(plugin))]
    pip("--editable", ".[toolchain,demo]", *editable, "--group", "dev", "--group", "docs")
    say("installing the networks that tests and benchmarks lower")
    whole, alone = networks()
    pip(*toolchain(), "--requirement", str(whole))
    pip("--no-deps", "--requirement", str(alone))


def say(step: str) -> None:
    print(f"setup: {step}", flush=True)


def main() -> None:
    # the lock makes a second make in the same checkout wait instead of installing into a half-filled folder
    with (ROOT / "pyproject.toml").open("rb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        wanted = fingerprint()
        if not (STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted):
            install()
        STAMP.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"setup: pip ended with status {error.returncode}; its message stands above")
