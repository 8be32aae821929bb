"""Plugins broken in each way that the host knows: installed together, each refused for its own reason."""

from __future__ import annotations

from typing import Any

import pytest
from sites import TESTS, ask, install

SOURCES = tuple(
    folder for folder in sorted((TESTS / "broken").iterdir()) if (folder / "pyproject.toml").is_file()
)
START = """
import json, sys
import quanthost

def told(error):
    return {"type": type(error).__name__, "plugin": error.plugin, "text": str(error)}

listed = {b.name: None if b.problem is None else told(b.problem) for b in quanthost.installed()}
"""
LISTING = f"""{START}
imported = sorted(name for name in sys.modules if name.startswith("broken_") or name == "torch")
print(json.dumps({{"listed": listed, "imported": imported}}))
"""
SCRIPT = f"""{START}
import torch
from quanthost import QuanthostError
model, inputs = torch.nn.Linear(2, 2), (torch.ones(1, 2),)
captured = quanthost.capture(model, inputs)
asked = {{}}
for name in [*dict.fromkeys(listed), "misspelt"]:
    try:
        quanthost.prepare(captured, name, "fp32")
        asked[name] = None
    except QuanthostError as error:
        asked[name] = told(error)
print(json.dumps({{"asked": asked}}))
"""
# what stands against a plugin before it is imported: error, and parts of its message
KNOWN_FROM_OUTSIDE = {
    "no_manifest": (
        "ManifestError",
        "no quanthost.toml for the module 'broken_no_manifest'",
        "write one and ship it, with setuptools",
    ),
    "other_api": (
        "ApiVersionError",
        "made for the plugin API >=2,<3",
        "install versions of the plugin and of quanthost that go together",
    ),
    "twin": (
        "DuplicateBackendError",
        "registered by quanthost-broken-twin-first 0.1.0",
        "and by quanthost-broken-twin-second 0.1.0",
        "pip uninstall quanthost-broken-twin-first or quanthost-broken-twin-second",
    ),
    "missing_module": (
        "BackendLoadError",
        "which lacks 'absent_npu_sdk'",
        "install what provides 'absent_npu_sdk'",
    ),
}
# what only its code tells, once the backend is asked for
KNOWN_FROM_INSIDE = {
    "import_error": (
        "BackendLoadError",
        "failed to load: RuntimeError: the kernel library is too old",
        "quanthost-broken-import-error",
        "QUANTHOST_BACKENDS=-import_error",
    ),
    "other_recipes": (
        "ManifestError",
        "the recipes [int8_static] in the manifest and [fp32] in the code",
        "correct recipes in quanthost.toml or in the BackendInfo",
    ),
    "misspelt_hook": (
        "HookError",
        "the hook 'quanthost_choose_qspec', which does not exist",
        "rename it to quanthost_choose_qspecs",
    ),
    "wrong_argument": (
        "HookError",
        "quanthost_validate asks for 'graph'",
        "only graph_module, decisions, request",
    ),
    "wrong_result": (
        "HookError",
        "quanthost_annotate returned",
        "of type str",
        "return Match or RowMiss from the hook",
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a process that has all of them installed says of each."""
    return ask(install(SOURCES, tmp_path_factory.mktemp("broken")), SCRIPT, anew=LISTING)


def test_listing_imports_none(said: Any) -> None:
    """All are listed, and neither a broken module nor torch is imported for it."""
    assert {*KNOWN_FROM_OUTSIDE, *KNOWN_FROM_INSIDE} <= set(said["listed"])
    assert said["imported"] == []


@pytest.mark.parametrize("name", KNOWN_FROM_OUTSIDE)
def test_listing_tells_what_is_wrong(said: Any, name: str) -> None:
    """What can be known without importing stands beside the name, and is raised when it is asked for."""
    kind, *parts = KNOWN_FROM_OUTSIDE[name]

    assert said["listed"][name]["type"] == kind
    assert [part for part in parts if part not in said["listed"][name]["text"]] == []
    assert said["asked"][name] == said["listed"][name]


@pytest.mark.parametrize("name", KNOWN_FROM_INSIDE)
def test_asking_tells_what_is_wrong(said: Any, name: str) -> None:
    """What only the code can tell is told when the backend is asked for, by its name."""
    kind, *parts = KNOWN_FROM_INSIDE[name]

    assert said["listed"][name] is None
    assert (said["asked"][name]["type"], said["asked"][name]["plugin"]) == (kind, name)
    assert [part for part in parts if part not in said["asked"][name]["text"]] == []


def test_an_unknown_name_tells_the_nearest(said: Any) -> None:
    """A name that nobody registers is answered with near ones, and with what is broken."""
    text = said["asked"]["misspelt"]["text"]

    assert said["asked"]["misspelt"]["type"] == "UnknownBackendError"
    assert "ask for 'misspelt_hook'" in text
    assert "other_api (the plugin 'other_api', made for the plugin API >=2,<3)" in text


def test_others_are_not_disturbed(said: Any) -> None:
    """The backends that are not broken are listed and answer as ever."""
    for name in ("int8_reference", "xnnpack_like"):
        assert said["listed"][name] is None
        assert said["asked"][name] is None


def test_every_broken_one_is_proved(said: Any) -> None:
    """Each distribution of the folder registers a name that is tested here; two of them claim one."""
    named = {source.name.removesuffix("_first").removesuffix("_second") for source in SOURCES}

    assert named == {*KNOWN_FROM_OUTSIDE, *KNOWN_FROM_INSIDE}
