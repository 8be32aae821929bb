"""The backend under test: what is known of it, and requests to it."""

from __future__ import annotations

import attrs
from toy_backends import RECIPE, backend

from quanthost.api import BackendInfo, Kernel, Recipe
from quanthost.testing.proving.subject import Subject
from quanthost.values import Placement


def test_plugin_object() -> None:
    """It has a name and a table, and no distribution."""
    subject = Subject.load(backend())

    assert (subject.name, subject.version, subject.installed) == ("toy", "", None)
    assert subject.table is not None
    assert subject.recipe("int8_static") == RECIPE


def test_installed_backend() -> None:
    """It has a version, too."""
    subject = Subject.load("int8_reference")

    assert subject.name == "int8_reference"
    assert subject.version


def test_request() -> None:
    """All that can be quantized is; with an override only modules called ``kept`` stay float."""
    subject = Subject.load(backend())
    plain, keeping = (subject.request("int8_static", keeps_float=keeps) for keeps in (False, True))

    assert plain.placement is Placement.ALL
    assert plain.overrides == ()
    assert [o.module_name for o in keeping.overrides] == ["*.kept"]


def test_recipes() -> None:
    """The full set has all, the quick one the first of each kernel."""
    recipes = (RECIPE, attrs.evolve(RECIPE, name="second"), Recipe(name="fp32", kernel=Kernel.FLOAT))
    plugin = attrs.evolve(backend(), info=BackendInfo(name="toy", recipes=recipes))
    subject = Subject.load(plugin)

    assert [r.name for r in subject.recipes(full=True)] == ["int8_static", "second", "fp32"]
    assert [r.name for r in subject.recipes(full=False)] == ["int8_static", "fp32"]
