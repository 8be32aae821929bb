"""The door to the shortcuts: each can be missing, unproved or unwanted, and the program is the same."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from flow_nets import BACKEND, rand, seeded
from torch import Tensor, nn

import quanthost
from quanthost.errors import RequestError
from quanthost.host.requests import resolve
from quanthost.host.target import Target
from quanthost.report.program_text import record_facts
from quanthost.stages.lowering.program import LoweredProgram
from quanthost.stages.preparing.prepare import prepare
from quanthost.stages.progress import silent
from quanthost.toolchain import shortcuts
from quanthost.toolchain.active import VARIABLE, using
from quanthost.toolchain.replacement import Replacement
from quanthost.toolchain.shortcuts import Shortcut
from quanthost.values import (
    ProgramRecord,
    Toolchain,
    ToolchainRecord,
    from_data,
    from_json,
    to_data,
    to_json,
)

FAST = "quanthost.toolchain.fast"
FOLDER = Path(shortcuts.__file__).parent
MANAGERS = tuple(name for name in shortcuts.SHORTCUTS if name not in ("lift", "detach_parts"))
REPLACING = ("constants", "decompose", "fusing", "lazy_code", "lookups", "naming", "retrace")


class Net(nn.Module):
    """A delegated layer, an operator that no delegate takes, and a number among tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        seeded(self)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x).cumsum(1) * 2
        return y


X = rand(2, 4)


def program(toolchain: Toolchain = Toolchain.FAST, **options: Any) -> LoweredProgram:
    """The network through all five stages."""
    plugins, request = resolve(Target(backend=BACKEND, recipe="int8_static", toolchain=toolchain))
    captured = quanthost.capture(Net(), (X,), toolchain=toolchain)
    calibrated = quanthost.calibrate(prepare(captured, plugins, request), [(X,)])
    return quanthost.lower(quanthost.convert(calibrated), **options)


def notes(made: LoweredProgram) -> tuple[str, ...]:
    assert made.record.toolchain is not None
    return made.record.toolchain.notes


def forget() -> None:
    """The door and the shortcuts are those of a new process."""
    for name in [name for name in sys.modules if name == FAST or name.startswith(f"{FAST}.")]:
        del sys.modules[name]
    shortcuts._load.cache_clear()
    shortcuts._version_problem.cache_clear()


@pytest.fixture
def anew() -> Iterator[None]:
    before = {name: module for name, module in sys.modules.items() if name.startswith(FAST)}
    forget()
    yield
    forget()
    sys.modules.update(before)


@pytest.fixture(scope="module")
def wanted() -> LoweredProgram:
    """The program of the shortcuts."""
    made = program()
    assert made.record.toolchain == ToolchainRecord()
    return made


def same(made: LoweredProgram, wanted: LoweredProgram) -> bool:
    return made.buffer == wanted.buffer and torch.equal(made.run(X), wanted.run(X))


def private_imports(file: Path) -> Iterator[tuple[str, str | None]]:
    """Modules and names with an underscore that a file imports from the toolchain."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imports = [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            imports = [(alias.name, None) for alias in node.names]
        else:
            continue
        for module, name in imports:
            parts = [*module.split("."), name or ""]
            if parts[0] in ("torch", "torchao", "executorch") and any(p.startswith("_") for p in parts):
                yield module, name


FILES = (*FOLDER.glob("fast/*.py"), FOLDER / "shortcuts.py")
NAMES = sorted({each for file in FILES for each in private_imports(file)})
# torch has no public names for these, and no shortcut rests on them
ALLOWED = {("torch.utils", "_pytree"), ("torch.utils._pytree", "tree_structure")}


def without(module: str, name: str | None) -> Callable[..., Any]:
    """An import statement's function that finds a name of the toolchain missing, for the shortcuts alone."""
    real = builtins.__import__

    def missing(asked: str, names: Any = None, *rest: Any) -> Any:
        ours = str((names or {}).get("__name__", "")).startswith(FAST)
        if ours and asked == module and (name is None or name in rest[1]):
            raise ImportError(f"cannot import name {name!r} from {module!r}")
        return real(asked, names, *rest)

    return missing


@pytest.mark.usefixtures("anew")
def test_each_private_name_may_be_missing(monkeypatch: pytest.MonkeyPatch, wanted: LoweredProgram) -> None:
    """Whatever rests on it is left out, a note names it, and the program is made."""
    assert len(NAMES) > 10
    flows: set[frozenset[str]] = set()
    for module, name in NAMES:
        forget()
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", without(module, name))
            with using(Toolchain.FAST) as way:
                left_out = frozenset(each for each in shortcuts.SHORTCUTS if shortcuts.shortcut(each) is None)
            assert left_out, (module, name)
            noted = [note for note in way.record().notes if f"{name!r} from {module!r}" in note]
            assert len(noted) == len(left_out), (module, name)
            # what leaves out the same shortcuts makes the same program
            if left_out not in flows:
                made = program()
                assert same(made, wanted), (module, name)
                assert set(notes(made)) <= set(way.record().notes)
                assert notes(made)
        flows.add(left_out)
    assert 4 <= len(flows) < len(NAMES)


def replacements() -> dict[str, tuple[Replacement, ...]]:
    """The functions that are replaced, by module."""
    return {name: importlib.import_module(f"{FAST}.{name}").REPLACEMENTS for name in REPLACING}


@pytest.mark.usefixtures("anew")
def test_each_replaced_function_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note names it; what relies on it is not replaced either."""
    original = Replacement.original
    for targets in replacements().values():
        for gone in targets:

            def missing(self: Replacement, gone: Replacement = gone) -> Any:
                if self is gone:
                    raise AttributeError(f"{gone.target} is not there")
                return original(self)

            with monkeypatch.context() as patch, using(Toolchain.FAST) as way:
                patch.setattr(Replacement, "original", missing)
                with shortcuts.entered(*MANAGERS):
                    pass
            assert way.record().notes == (f"{gone.target} is not replaced: {gone.target} is not there",)


@pytest.mark.usefixtures("anew")
def test_each_replaced_function_may_have_changed(
    monkeypatch: pytest.MonkeyPatch, wanted: LoweredProgram
) -> None:
    """It is not replaced then, nor what relies on it."""
    for module, targets in replacements().items():
        accepted = importlib.import_module(f"{FAST}.accepted_code").FINGERPRINTS.accepted
        for each in targets:
            # another process would compare the source anew
            monkeypatch.setattr(each._fingerprints, "_results", {})
            with monkeypatch.context() as patch, using(Toolchain.FAST) as way:
                patch.setitem(accepted, each.target, ["0" * 16])
                with each.entered() as is_replaced:
                    assert not is_replaced
            (note,) = way.record().notes
            assert note.startswith(f"{each.target} is not as it was")
        monkeypatch.setattr(targets[0]._fingerprints, "_results", {})
        with monkeypatch.context() as patch:
            for each in targets:
                patch.setitem(accepted, each.target, ["0" * 16])
            made = program()
        assert same(made, wanted)
        assert {note.partition(" ")[0] for note in notes(made)} <= {each.target for each in targets}
        assert notes(made), module
    assert sum(map(len, replacements().values())) == 22


def test_each_pass_may_have_changed(monkeypatch: pytest.MonkeyPatch, wanted: LoweredProgram) -> None:
    """It traces then; a pass that only regenerates traces if its base has changed."""
    from quanthost.toolchain.fast import passes, retrace
    from quanthost.toolchain.fast.accepted_code import FINGERPRINTS
    from quanthost.toolchain.fingerprints import name_of

    graph = torch.export.export(nn.ReLU(), (X,)).run_decompositions({}).graph_module

    def is_traced(kind: type, base: type) -> bool:
        return retrace._run_incrementally(kind.__new__(kind), graph, base) is None

    base = retrace.BASES[0]
    plain = type("Plain", (base,), {})
    skipped = {*passes.TWINS, *passes.concerns()}
    assert set(passes.REWRITES) <= skipped
    before = {kind: is_traced(kind, base) for kind in (*skipped, plain)}
    for kind, proved in [*zip(skipped, skipped), (plain, base)]:
        monkeypatch.setattr(FINGERPRINTS, "_results", {})
        with monkeypatch.context() as patch, using(Toolchain.FAST) as way:
            patch.setitem(FINGERPRINTS.accepted, name_of(proved), ["0" * 16])
            assert is_traced(kind, base)
        (note,) = way.record().notes
        assert note.startswith(f"{name_of(proved)} is not as it was")
    assert not any(before.values())
    monkeypatch.setattr(FINGERPRINTS, "_results", {})
    for kind in (*skipped, *retrace.BASES):
        monkeypatch.setitem(FINGERPRINTS.accepted, name_of(kind), ["0" * 16])
    made = program()
    assert same(made, wanted)
    assert len(notes(made)) > 5
    monkeypatch.setattr(FINGERPRINTS, "_results", {})


@pytest.mark.usefixtures("anew")
def test_versions_that_are_not_proved(monkeypatch: pytest.MonkeyPatch, wanted: LoweredProgram) -> None:
    """All is upstream's own way then; the suffix of a build is no other version."""
    proved = shortcuts.PROVED[0]
    monkeypatch.setattr(shortcuts, "PROVED", (attrs.evolve(proved, torch="1.0.0"),))
    made = program()
    assert same(made, wanted)
    assert FAST not in sys.modules
    (note,) = notes(made)
    assert note == f"no shortcuts with {proved}: they are proved with {shortcuts.PROVED[0]}"
    versions = {**attrs.asdict(proved), "torch": f"{proved.torch}+cu130"}
    monkeypatch.setattr(shortcuts, "PROVED", (proved,))
    monkeypatch.setattr("importlib.metadata.version", versions.__getitem__)
    shortcuts._version_problem.cache_clear()
    assert shortcuts._version_problem() is None


@pytest.mark.usefixtures("anew")
def test_upstream_takes_no_shortcut(wanted: LoweredProgram) -> None:
    """From capture to lower, and the record says so."""
    made = program(Toolchain.UPSTREAM)
    assert same(made, wanted)
    assert made.record.toolchain == ToolchainRecord(way=Toolchain.UPSTREAM)
    assert FAST not in sys.modules


@pytest.mark.usefixtures("anew")
def test_the_environment_forbids_shortcuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the request says, in a stage and outside of one."""
    monkeypatch.setenv(VARIABLE, "upstream")
    with using(Toolchain.FAST) as way:
        assert not any(map(shortcuts.shortcut, shortcuts.SHORTCUTS))
    assert not any(map(shortcuts.shortcut, shortcuts.SHORTCUTS))
    assert FAST not in sys.modules
    assert way.record() == ToolchainRecord(way=Toolchain.UPSTREAM, notes=(f"{VARIABLE}=upstream",))
    monkeypatch.setenv(VARIABLE, "slow")
    with pytest.raises(RequestError, match="QUANTHOST_TOOLCHAIN='slow'\n  needed: one of fast, upstream"):
        quanthost.capture(Net(), (X,))


def test_lower_alone_may_be_upstream(wanted: LoweredProgram) -> None:
    made = program(lowering=Toolchain.UPSTREAM)
    assert same(made, wanted)
    assert made.record.toolchain == ToolchainRecord(
        way=Toolchain.UPSTREAM, notes=("fast toolchain before lower",)
    )


@pytest.mark.usefixtures("anew")
def test_notes_reach_the_user(monkeypatch: pytest.MonkeyPatch, wanted: LoweredProgram) -> None:
    """As notes of the progress, and as a line of what 'quanthost inspect' shows; once each."""
    progress = silent()
    said: list[str] = []
    monkeypatch.setattr(progress, "note", said.append, raising=False)
    monkeypatch.setitem(shortcuts.SHORTCUTS, "counted_names", Shortcut("nowhere", ("prepare", "convert")))
    made = quanthost.quantize(Net(), (X,), BACKEND, calibration=[(X,)], progress=progress)
    note = f"no shortcut counted_names (prepare, convert): No module named '{FAST}.nowhere'"
    assert said == [note]
    assert dict(record_facts(made.record))["toolchain"] == f"fast; {note}"
    assert "toolchain" not in dict(record_facts(wanted.record))
    assert from_json(ProgramRecord, to_json(made.record)) == made.record


def test_records_of_before_still_load(wanted: LoweredProgram) -> None:
    data = to_data(wanted.record)
    del data["toolchain"]
    assert from_data(ProgramRecord, data).toolchain is None


def test_private_names_are_behind_the_door() -> None:
    """Nothing else of the core imports one, but for two that are imported late, each with our own error."""
    core = FOLDER.parent
    others = {file for file in core.rglob("*.py") if file.parent.name != "fast"} - {FOLDER / "shortcuts.py"}
    # to parse all files takes seconds
    private = re.compile(r"^ *(import|from) .*\b_", re.MULTILINE)
    suspects = [file for file in others if private.search(file.read_text(encoding="utf-8"))]
    names = {each for file in suspects for each in private_imports(file)} - ALLOWED
    assert names == {
        ("executorch.exir._serialize._program", "deserialize_pte_binary"),
        ("torch._decomp", "get_decompositions"),
    }
