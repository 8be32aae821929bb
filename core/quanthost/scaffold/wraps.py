"""Imports and tries an existing PT2E quantizer and ExecuTorch partitioner for a backend that wraps them."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

from quanthost.errors import RequestError
from quanthost.scaffold.plan import WrapTarget
from quanthost.toolchain.annotations import Quantizer
from quanthost.toolchain.partition import Partitioner

__all__ = ["find_wrapped"]

# the function that configures the quantizer in ExecuTorch's backends
_CONFIG = "get_symmetric_quantization_config"


def find_wrapped(quantizer: str, partitioner: str) -> WrapTarget:
    """Import and call both ``"package.module:Name"``, each a class or a function without arguments.

    Raises:
        RequestError: one cannot be imported or called, or returns something else.
    """
    quantizer_object, quantizer_import = _create(quantizer, Quantizer)
    partitioner_object, partitioner_import = _create(partitioner, Partitioner)
    spec = getattr(partitioner_object, "delegation_spec", None)
    return WrapTarget(
        quantizer=quantizer_import, partitioner=partitioner_import,
        config=_config(quantizer_import, quantizer_object), delegate=str(getattr(spec, "backend_id", "")),
    )  # fmt: skip


def _create(target: str, kind: type) -> tuple[Any, tuple[str, str]]:
    module, colon, name = target.partition(":")
    parts = (*module.split("."), name)
    if not colon or not all(part.isidentifier() for part in parts):
        raise _error(target, f"--wrap {target!r}", "package.module:Name", "write module, colon and name")
    factory = _import(target, module, name)
    try:
        instance = factory()
    except Exception as error:
        raise _error(
            target, f"{target}(), which raised {type(error).__name__}: {error}",
            f"a {kind.__name__} class, or a function that returns one, without arguments",
            "write a function without arguments that returns one, and name that",
        ) from error  # fmt: skip
    if not isinstance(instance, kind):
        raise _error(
            target, f"{target}() of type {type(instance).__name__}", f"a {kind.__module__}.{kind.__name__}",
            "name the quantizer first, then the partitioner",
        )  # fmt: skip
    return instance, (module, name)


def _import(target: str, module: str, name: str) -> Callable[[], Any]:
    # as for a script, modules in the current folder can be imported
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        factory = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:
        raise _error(
            target, f"{module}, whose import raised {type(error).__name__}: {error}",
            "a module that can be imported", "install what provides it, or correct the name",
        ) from error  # fmt: skip
    if callable(factory):
        return factory  # type: ignore[no-any-return]  # the module is known at run time only
    raise _error(
        target, f"{module} without a class or function {name!r}", "the name of one in it", "correct the name"
    )


def _config(imported: tuple[str, str], quantizer: Any) -> tuple[str, str] | None:
    """The configuration function next to a quantizer class that annotates nothing without it."""
    module, name = imported
    names = vars(sys.modules[module])
    if not isinstance(names[name], type) or not hasattr(quantizer, "set_global") or _CONFIG not in names:
        return None
    parameters = inspect.signature(names[_CONFIG]).parameters
    return _CONFIG, "is_per_channel=True" if "is_per_channel" in parameters else ""


def _error(target: str, seen: str, needed: str, remedy: str) -> RequestError:
    return RequestError(seen, needed=needed, where="new-backend --wrap", remedy=remedy, value=target)
