"""Makes the checkout's virtual environment: toolchain, host, plugins, tools.

It starts on any Python from 3.7 on, to say in one sentence which one it needs.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / "installed"
PYTHON = VENV / "bin" / "python"
# modules are compiled when they are first imported: most of what is installed never is
PIP = ("-m", "pip", "--disable-pip-version-check", "install", "--no-compile", "--prefer-binary")
# downloads that take a while, in the words of pip
_LARGE = re.compile(r"\s*Downloading (\S+) \((\d{2,}(?:\.\d+)? MB)\)")
_UNPACKED = re.compile(r"\s*Installing collected packages: (.*)")
_AGAIN = "then run the same command again: it continues where it stopped"
# what stands in the output of a failed step, and the sentence for it
_CAUSES = (
    (r"No space left on device", "the disk is full: .venv takes about 2 GB; make room, " + _AGAIN),
    (
        r"NewConnectionError|ConnectTimeout|ReadTimeout|NameResolution|ProxyError|\(from versions: none\)",
        "pip reaches no package index that has what is needed: connect this machine, "
        "or set index-url in pip's configuration, " + _AGAIN,
    ),
    (r"ensurepip", "this Python has no ensurepip: install it (Debian and Ubuntu: python3-venv), " + _AGAIN),
)


class StepFailed(Exception):
    """A step ended with an error; the text is what it wrote."""


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
    digest = hashlib.sha256(sys.version.encode())
    for path in (Path(__file__), *manifests, *networks()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def requirements() -> tuple[list[str], list[str]]:
    """What builds the distributions of this checkout, and what they require except for one another.

    The dependency group ``toolchain`` pins the release that the tests run with; the extra of this name
    allows more releases.
    """
    # late: older Pythons lack it
    import tomllib

    documents = [
        tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        for folder in (ROOT, *plugins())
    ]
    build = [each for document in documents for each in document.get("build-system", {}).get("requires", [])]
    projects = [document["project"] for document in documents]
    names = {project.get("name") for project in projects}
    needed = [*documents[0]["dependency-groups"]["toolchain"]]
    needed += projects[0].get("optional-dependencies", {}).get("demo", [])
    needed += [each for project in projects for each in project.get("dependencies", [])]
    others = [each for each in needed if re.split(r"[^\w.-]", each, maxsplit=1)[0] not in names]
    return list(dict.fromkeys(build)), list(dict.fromkeys(others))


def steps() -> list[tuple[str, list[str]]]:
    """What each call of pip installs: in words, and as its arguments."""
    build, needed = requirements()
    whole, alone = networks()
    editable = [argument for folder in (ROOT, *plugins()) for argument in ("--editable", str(folder))]
    return [
        # the first pip that installs dependency groups
        ("pip and " + ", ".join(build), ["--upgrade", "pip>=25.1", *build]),
        # one command: torch without its pin, in a command of its own, would bring the CUDA libraries
        (
            f"{needed[0]}, {needed[1]}, the tools and what the tests lower (some minutes the first time)",
            [*needed, "--group", "dev", "--group", "docs", "--requirement", str(whole)],
        ),
        ("quanthost and its plugins", ["--no-deps", "--no-build-isolation", *editable]),
        ("networks that bring their weights", ["--no-deps", "--requirement", str(alone)]),
    ]


def install() -> None:
    """Fill the environment, step by step; of what is installed already, a step costs pip a look."""
    todo = steps()
    begin = time.monotonic()
    total = len(todo) + 1
    if not usable():
        say(f"1/{total} making .venv with Python {sys.version.split()[0]}")
        start = time.monotonic()
        create()
        say(f"    {time.monotonic() - start:.0f} s")
    for number, (what, arguments) in enumerate(todo, start=2):
        say(f"{number}/{total} installing {what}")
        start = time.monotonic()
        pip(*arguments)
        say(f"    {time.monotonic() - start:.0f} s")
    say(f"done in {time.monotonic() - begin:.0f} s")


def usable() -> bool:
    """Whether .venv is whole, and of this Python; an interrupted run may have left a part of one."""
    code = "import sys, pip._internal.cli.main; print(sys.version)"
    try:
        done = subprocess.run([str(PYTHON), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.decode().strip() == sys.version


def create() -> None:
    try:
        venv.create(VENV, clear=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        raise StepFailed(f"{(error.output or b'').decode()}\n{error}") from error


def pip(*arguments: str) -> None:
    """Run ``pip install``, and show which large files it downloads and how many packages it unpacks."""
    command = [str(PYTHON), *PIP, "--progress-bar", "off", *arguments]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    written = []
    with subprocess.Popen(command, cwd=str(ROOT), universal_newlines=True, **streams) as process:
        for line in process.stdout:
            written.append(line)
            large, unpacked = _LARGE.match(line), _UNPACKED.match(line)
            if large:
                say(f"    downloads {large.group(1)}, {large.group(2)}")
            elif unpacked:
                say(f"    unpacks {len(unpacked.group(1).split(', '))} packages")
    if process.returncode:
        raise StepFailed("".join(written))


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def explain(output: str) -> str:
    """One sentence for a known cause; else what pip wrote from its first error on."""
    for pattern, sentence in _CAUSES:
        if re.search(pattern, output):
            return sentence
    lines = output.strip().splitlines()
    first = next((n for n, line in enumerate(lines) if line.lower().startswith("error")), len(lines) - 20)
    return "pip failed; it wrote:\n" + "\n".join(lines[max(first, 0) :])


def main() -> None:
    if sys.version_info < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        sys.exit(
            f"setup: Python {oldest} or newer is needed, and this is {sys.version.split()[0]}; "
            f"name another one: make setup PYTHON=python{oldest}"
        )
    # the lock makes a second make in the same checkout wait instead of installing into a half-filled folder
    with (ROOT / "pyproject.toml").open("rb") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for the set-up that runs in this checkout already")
            fcntl.flock(guard, fcntl.LOCK_EX)
        current = fingerprint()
        if STAMP.exists() and STAMP.read_text(encoding="utf-8") == current:
            return
        install()
        STAMP.write_text(current, encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(f"setup: interrupted; {_AGAIN[5:]}")
    except StepFailed as error:
        sys.exit(f"setup: {explain(str(error))}")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.exit(f"setup: {explain(str(error))}")
