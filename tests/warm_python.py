"""Python in processes of their own that begin with the toolchain imported: forks of one server.

Importing torch and ExecuTorch takes longer than most commands. Nothing of quanthost is imported beforehand.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["run_code", "run_script"]

_SECONDS = 300


class _Server:
    """Runs one script after the other; closing it ends its process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, command: Sequence[str | Path], folder: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as outputs:
            request = {"command": words, "folder": str(folder), "env": dict(env), "outputs": outputs}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            out, err = (Path(outputs, name).read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(words, code, out, err)

    def close(self) -> None:
        self._process.communicate()


@functools.cache
def _server() -> _Server:
    server = _Server()
    atexit.register(server.close)
    return server


def run_script(
    command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python script with arguments in a folder; a signal ended it if the exit code is negative."""
    return _server().run(command, folder, os.environ if env is None else env)


def run_code(code: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python code, as ``python -c`` does."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "code.py")
        script.write_text(code, encoding="utf-8")
        return run_script([script], Path.cwd(), env)


def _serve() -> None:
    # a script's own output goes to files: this one is for exit codes
    codes = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        import executorch.exir
        import executorch.runtime  # noqa: F401
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
        _, status = os.waitpid(child, 0)
        codes.write(f"{os.waitstatus_to_exitcode(status)}\n")
        codes.flush()


def _become(request: dict[str, Any]) -> None:
    """Run the script in this process, and end it."""
    code = 1
    try:
        signal.alarm(_SECONDS)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        for number, name in ((1, "out"), (2, "err")):
            with open(Path(request["outputs"], name), "w") as file:
                os.dup2(file.fileno(), number)
        os.chdir(request["folder"])
        before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ.clear()
        os.environ.update(request["env"])
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        added = [path for path in paths if path and path not in before]
        sys.path[:] = [*added, *(path for path in sys.path if path != str(Path(__file__).parent))]
        sys.argv = request["command"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
