"""Finds where a node comes from: operator, module and line of the user's code, as tracing recorded them."""

from __future__ import annotations

import functools
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import attrs
import torch
from torch import fx

from quanthost.graph.operators import operator_name

__all__ = ["Location", "NodeInfo", "innermost", "locations", "node_infos", "source_line"]

_SITE = Path(torch.__file__).parents[1]
_TOOLCHAIN = ("torch", "torchgen", "functorch", "numpy", "sympy")
_FOREIGN = (
    *(f"{_SITE / name}{os.sep}" for name in _TOOLCHAIN),
    # torch shortens the names of its own files in some of the stacks that it records
    *(f"{name}{os.sep}" for name in _TOOLCHAIN),
    f"{Path(__file__).resolve().parents[1]}{os.sep}",
    *("<string>", "<frozen ", "<eval_with_key>", "<__array_function__"),
)
_STDLIB = f"{sysconfig.get_path('stdlib')}{os.sep}"
_INSTALLED = tuple(f"{os.sep}{folder}{os.sep}" for folder in ("site-packages", "dist-packages"))
_FRAME = re.compile(
    r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)(?:\n +(?P<text>\S.*))?'
)


@attrs.frozen(kw_only=True)
class Location:
    """A line of source; ``text`` is empty if the source cannot be read.

    As text it has the file's path as Python knows it, which an editor can open: what errors show.
    """

    file: str
    line: int
    function: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def described(self, owner: str | None = None) -> str:
        """``file:line, in function of owner: text``, as far as it is known."""
        of = "" if owner is None else f" of {owner}"
        return f"{self}, in {self.function}{of}" + (f": {self.text}" if self.text else "")

    @property
    def portable(self) -> str:
        """``package/file.py:line``: the same on every machine, for stored records.

        Relative to the entry of ``sys.path`` or the working directory that is nearest above the file,
        or only the file's name if there is none.
        """
        return f"{_portable(self.file, (*sys.path, os.getcwd()))}:{self.line}"

    @property
    def is_users(self) -> bool:
        """Whether the line is outside of torch, the standard library and quanthost."""
        if self.file.startswith(_FOREIGN):
            return False
        return not self.file.startswith(_STDLIB) or any(folder in self.file for folder in _INSTALLED)


@attrs.frozen(kw_only=True)
class NodeInfo:
    """The operator of a call node, and where it comes from.

    ``operator`` is the aten name with overload. ``module`` is the dotted path of the innermost module
    whose forward was running, ``""`` for the model itself; ``module_type`` its class, with its Python
    module. ``source`` is the innermost line that belongs to the user's code, as ``Location.portable``, as
    far as torch recorded it: mostly one of a forward, also where that calls a function.
    """

    name: str
    operator: str
    module: str | None = None
    module_type: str | None = None
    source: str | None = None


def node_infos(graph: fx.Graph) -> tuple[NodeInfo, ...]:
    """One entry for each call node, in the order of the graph."""
    return tuple(_info(node) for node in graph.nodes if node.op == "call_function")


def _info(node: fx.Node) -> NodeInfo:
    module, module_type = _module(node)
    line = source_line(node)
    return NodeInfo(
        name=node.name, operator=operator_name(node), module=module, module_type=module_type,
        source=None if line is None else line.portable,
    )  # fmt: skip


@functools.lru_cache
def _portable(file: str, entries: tuple[str, ...]) -> str:
    if file.startswith("<"):
        return file
    path = Path(os.path.abspath(file))
    roots = (Path(os.path.abspath(entry)) for entry in entries)
    # relative to the root of all files, a path would be whole
    holding = [root for root in roots if root in path.parents and root != root.parent]
    deepest = max(holding, key=lambda root: len(root.parts), default=path.parent)
    return str(path.relative_to(deepest).as_posix())


def source_line(node: fx.Node) -> Location | None:
    """The innermost line of the user's code that was running when the node was recorded."""
    recorded = _FRAME.finditer(node.meta.get("stack_trace") or "")
    return innermost(
        Location(file=f["file"], line=int(f["line"]), function=f["function"], text=f["text"] or "")
        for f in recorded
    )


def _module(node: fx.Node) -> tuple[str | None, str | None]:
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return None, None
    path, kind = list(stack.values())[-1]
    # torch gives nodes that it inserts itself a stack of one entry whose path is no path
    if path.startswith("_empty_nn_module_stack"):
        return None, None
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return path, name


def locations(trace: TracebackType | None) -> list[Location]:
    """The lines of a traceback, outermost first."""
    return [
        Location(file=f.filename, line=f.lineno or 0, function=f.name, text=(f.line or "").strip())
        for f in traceback.extract_tb(trace)
    ]


def innermost(lines: Iterable[Location]) -> Location | None:
    """The last line that is the user's."""
    return next((line for line in reversed(list(lines)) if line.is_users), None)
