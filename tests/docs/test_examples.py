"""Examples of the documentation: every page's code runs from top to bottom and prints what the page shows.

A ``python`` block is executed, in one namespace a page and in a folder of the page's own. With a
``title="name.py"`` it is written to that file instead, and a ``diff`` block with a title changes the file.
Of a ``console`` block, ``cd`` and the commands in ``PROGRAMS`` are executed in that folder;
``pip install --editable`` makes a distribution visible to what follows, and for ``make`` the target must
exist. A ``text`` block right behind a ``python`` block is its output. Shown output may leave out parts as
``...``.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from warm_python import run_script

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("plugins/*/README.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w+)?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_EXIT = re.compile(r"<!-- exit (\d) -->\s*\Z")
PROGRAMS = ("quanthost", "pytest", "ruff")
# the rest is no Python
_WARM = ("quanthost", "pytest")
_LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@attrs.frozen(kw_only=True)
class Block:
    """A fenced block; ``title`` names a file to write, ``after`` the language of the block right before."""

    language: str
    text: str
    line: int
    title: str | None
    exit_code: int
    after: str | None


@attrs.frozen(kw_only=True)
class Command:
    """A line of a console block with the output that the page shows below it."""

    words: tuple[str, ...]
    output: str


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    previous, end = None, 0
    for found in _FENCE.finditer(text):
        between = text[end : found.start()]
        title, exits = _TITLE.search(found[2]), _EXIT.search(between)
        yield Block(
            language=found[1] or "", text=found[3], line=text.count("\n", 0, found.start(3)) + 1,
            title=title[1] if title else None, exit_code=int(exits[1]) if exits else 0,
            after=previous if not between.strip() else None,
        )  # fmt: skip
        previous, end = found[1], found.end()


def commands(text: str) -> Iterator[Command]:
    """The commands of a console block; a backslash continues one on the next line."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, output = part.replace("\\\n", " ").partition("\n")
        yield Command(words=tuple(shlex.split(line, comments=True)), output=output)


def _agrees(shown: str, printed: str) -> bool:
    return doctest.OutputChecker().check_output(shown.strip() + "\n", printed.strip() + "\n", _LENIENT)


def _compare(shown: str, printed: str, where: str) -> None:
    assert _agrees(shown, printed), f"{where} shows\n{shown}\nbut it prints\n{printed}"


@attrs.define
class Shell:
    """Where commands run, and which folders of distributions they see."""

    folder: Path
    visible: list[str] = attrs.field(factory=list)

    def run(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str] | None:
        """Run a command; ``None`` where it is none to run here."""
        if words[0] == "cd":
            self.folder = self.folder / words[1]
        elif words[:3] == ("pip", "install", "--editable"):
            self._install(words[3].partition("[")[0])
        elif words[0] == "make":
            subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        elif words[0] in PROGRAMS:
            return self._run(Path(sys.executable).with_name(words[0]), *words[1:])
        return None

    def write(self, block: Block, where: str) -> None:
        """Make or change the file that a block has for its title."""
        assert block.title is not None
        file = self.folder / block.title
        text = block.text
        if block.language == "diff":
            lines = block.text.splitlines(keepends=True)
            old, new = ("".join(line[1:] for line in lines if line[0] != mark) for mark in "+-")
            text = file.read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{where}: {block.title} has {text.count(old)} times\n{old}"
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")

    def _install(self, name: str) -> None:
        """What pip does for a distribution with a ``src`` folder: metadata in it, and it on the path."""
        command = ("-c", "import setuptools; setuptools.setup()", "-q", "egg_info")
        source = self.folder / name
        subprocess.run([sys.executable, *command], cwd=source, check=True, capture_output=True)
        self.visible.append(str(source / "src"))

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (*self.visible, os.environ.get("PYTHONPATH"))))
        env = {**os.environ, "COLUMNS": "100", "PYTHONPATH": path}
        if Path(command[0]).name in _WARM:
            return run_script(command, self.folder, env)
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
            env=env, check=False,
        )  # fmt: skip


def _run_console(block: Block, shell: Shell, where: str) -> None:
    for command in commands(block.text):
        done = shell.run(command.words)
        if done is None:
            continue
        printed = done.stdout + done.stderr
        assert done.returncode == block.exit_code, f"{where}: {shlex.join(command.words)}\n{printed}"
        # a page need not show what goes to stderr beside the results
        if command.output.strip() and not _agrees(command.output, done.stdout):
            _compare(command.output, printed, where)


def _run_python(block: Block, page: Path, namespace: dict[str, object]) -> str:
    # the page's own name and line numbers, so that a traceback and inspect find the source in it
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


def run_page(page: Path, folder: Path) -> None:
    """Run all blocks of a page in a folder, which must be the current one."""
    module = types.ModuleType(f"page_{page.stem.replace('-', '_')}")
    sys.modules[module.__name__] = module
    shell, printed = Shell(folder), ""
    for block in blocks(page.read_text(encoding="utf-8")):
        where = f"{page.name}, line {block.line}"
        if block.title is not None:
            shell.write(block, where)
        elif block.language == "python":
            printed = _run_python(block, page, vars(module))
        elif block.language == "text" and block.after == "python":
            _compare(block.text, printed, where)
        elif block.language == "console":
            _run_console(block, shell, where)


def _runs(page: Path) -> bool:
    return any(b.language in ("python", "console") for b in blocks(page.read_text(encoding="utf-8")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to run in and import from; the modules that came from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.startswith("page_") or (file is not None and Path(file).is_relative_to(tmp_path)):
            del sys.modules[name]


# what the toolchain says of itself where a page calls it directly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if _runs(page)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_page_runs_as_written(page: Path, folder: Path) -> None:
    """Each example runs after those above it, and prints what the page says."""
    run_page(page, folder)


def _page(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_wrong_output_is_found(folder: Path) -> None:
    """A page that shows other output than its code prints fails, and the message has both."""
    page = _page(folder, "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    with pytest.raises(AssertionError, match=r"line 6 shows\s+3\s+but it prints\s+2"):
        run_page(page, folder)


def test_output_may_be_shortened(folder: Path) -> None:
    """Three dots stand for any text; blocks see the names of earlier blocks."""
    page = _page(folder, "```python\nn = 12345\n```\nThen\n```python\nprint(n)\n```\n```text\n1...5\n```\n")
    run_page(page, folder)


def test_failing_code_names_the_line_of_the_page(folder: Path) -> None:
    """The traceback of an example has the line number that the page has."""
    page = _page(folder, "# Title\n\n```python\nx = 1\nraise KeyError(x)\n```\n")
    with pytest.raises(KeyError) as caught:
        run_page(page, folder)
    assert caught.traceback[-1].lineno + 1 == 5


def test_titled_blocks_become_files_for_commands(folder: Path) -> None:
    """A command that fails where the page expects success fails the page, unless the page says so."""
    text = '```python title="given.txt"\nx\n```\n\n```console\n$ quanthost no-such-command\n```\n'
    with pytest.raises(AssertionError, match="no-such-command"):
        run_page(_page(folder, text), folder)
    assert (folder / "given.txt").read_text() == "x\n"
    run_page(_page(folder, text.replace("```console", "<!-- exit 2 -->\n```console")), folder)


def test_diffs_change_files(folder: Path) -> None:
    """What a diff block takes away must stand in the file once; context and new lines stand there then."""
    first = '```text title="a.txt"\none\ntwo\nthree\n```\n'
    change = '```diff title="a.txt"\n one\n-two\n+zwei\n```\n'
    run_page(_page(folder, first + change), folder)
    assert (folder / "a.txt").read_text() == "one\nzwei\nthree\n"
    with pytest.raises(AssertionError, match=r"a\.txt has 0 times\s+one\s+two"):
        run_page(_page(folder, first + change + change), folder)


def test_an_installed_distribution_is_seen(folder: Path) -> None:
    """After its installation a backend is listed, from any folder; ``cd`` moves to another."""
    text = (
        "```console\n$ quanthost new-backend npu\n$ pip install --editable 'quanthost-npu[dev]'\n"
        "$ cd quanthost-npu/src\n$ quanthost backends\n...\nnpu int8_static ...\n```\n"
    )
    run_page(_page(folder, text), folder)


def test_unknown_make_target_is_found(folder: Path) -> None:
    """A page that names a target which the Makefile doesn't have fails."""
    with pytest.raises(subprocess.CalledProcessError):
        run_page(_page(folder, "```console\n$ make no_such_target\n```\n"), folder)


def test_command_lines_are_split_as_a_shell_does() -> None:
    """Quotes, comments and continued lines; what follows a command is its output."""
    [first, second] = commands("$ a 'b c' \\\n    --d  # why\nout\nmore\n$ e\n")
    assert first == Command(words=("a", "b c", "--d"), output="out\nmore\n")
    assert second == Command(words=("e",), output="")
