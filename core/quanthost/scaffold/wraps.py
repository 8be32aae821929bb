"""An existing PT2E quantizer and ExecuTorch partitioner, found by name and tried before they are wrapped."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

from quanthost.errors import RequestError
from quanthost.scaffold.plan import Wrapped
from quanthost.toolchain.annotations import Quantizer
from quanthost.toolchain.partition import Partitioner

__all__ = ["find_wrapped"]

# the name that ExecuTorch's backends give the function that configures their quantizer
_CONFIG = "get_symmetric_quantization_config"


def find_wrapped(quantizer: str, partitioner: str) -> Wrapped:
    """Import both ``"package.module:Name"``, each a class or a function without arguments, and make one.

    Raises:
        RequestError: one cannot be imported or called, or makes something else.
    """
    made_quantizer, quantizer_import = _make(quantizer, Quantizer)
    made_partitioner, partitioner_import = _make(partitioner, Partitioner)
    spec = getattr(made_partitioner, "delegation_spec", None)
    return Wrapped(
        quantizer=quantizer_import, partitioner=partitioner_import,
        config=_config(quantizer_import, made_quantizer), delegate=str(getattr(spec, "backend_id", "")),
    )  # fmt: skip


def _make(target: str, kind: type) -> tuple[Any, tuple[str, str]]:
    module, colon, name = target.partition(":")
    parts = (*module.split("."), name)
    if not colon or not all(part.isidentifier() for part in parts):
        raise _refused(target, f"--wrap {target!r}", "package.module:Name", "write module, colon and name")
    make = _imported(target, module, name)
    try:
        made = make()
    except Exception as error:
        raise _refused(
            target, f"{target}(), which raised {type(error).__name__}: {error}",
            f"a {kind.__name__} class, or a function that makes one, to call without arguments",
            "write a function without arguments that makes one, and name that",
        ) from error  # fmt: skip
    if not isinstance(made, kind):
        raise _refused(
            target, f"{target}() of type {type(made).__name__}", f"a {kind.__module__}.{kind.__name__}",
            "name the quantizer first, then the partitioner",
        )  # fmt: skip
    return made, (module, name)


def _imported(target: str, module: str, name: str) -> Callable[[], Any]:
    # as when Python runs a script: what lies in the current folder can be named
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:
        raise _refused(
            target, f"{module}, whose import raised {type(error).__name__}: {error}",
            "a module that can be imported", "install what provides it, or correct the name",
        ) from error  # fmt: skip
    if callable(found):
        return found  # type: ignore[no-any-return]  # of a module that is known at run time alone
    raise _refused(
        target, f"{module} without a class or function {name!r}", "the name of one in it", "correct the name"
    )


def _config(imported: tuple[str, str], quantizer: Any) -> tuple[str, str] | None:
    """The configuring function beside a quantizer class that would annotate nothing without it."""
    module, name = imported
    beside = vars(sys.modules[module])
    if not isinstance(beside[name], type) or not hasattr(quantizer, "set_global") or _CONFIG not in beside:
        return None
    takes = inspect.signature(beside[_CONFIG]).parameters
    return _CONFIG, "is_per_channel=True" if "is_per_channel" in takes else ""


def _refused(target: str, seen: str, needed: str, remedy: str) -> RequestError:
    return RequestError(seen, needed=needed, where="new-backend --wrap", remedy=remedy, value=target)
