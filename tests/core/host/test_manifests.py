"""Tests of manifests: where they are found, what is refused, and the agreement with the code."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fake_site import Site

from quanthost.errors import ApiVersionError, DiscoveryError, ManifestError
from quanthost.host.api_range import API_VERSION
from quanthost.host.manifests import check_manifest, read
from quanthost.values import BackendInfo, Kernel, Manifest, Recipe

ReadBack = Callable[[str], tuple[Manifest | None, DiscoveryError | None]]
MODULE = "fake_npu.plugin"
FIELDS = {
    "name": '"npu"',
    "summary": '"a backend of the tests"',
    "api": '">=1,<2"',
    "recipes": '["int8_static", "fp32"]',
}


def toml(**fields: str | None) -> str:
    """A manifest's text with some fields replaced, added, or (``None``) left out."""
    return "\n".join(f"{name} = {text}" for name, text in {**FIELDS, **fields}.items() if text is not None)


@pytest.fixture
def manifest_of(site: Site) -> ReadBack:
    """A function that writes the text of the manifest and reads it back."""

    def write_and_read(text: str) -> tuple[Manifest | None, DiscoveryError | None]:
        site.write(site.add(manifest=None) / "quanthost.toml", text)
        return read(MODULE, plugin="npu")

    return write_and_read


def test_read(manifest_of: ReadBack) -> None:
    """All fields of the file become the manifest's."""
    manifest, problem = manifest_of(toml(requires='["json", "a.b"]', runtime='"NpuBackend"'))

    assert problem is None
    assert manifest == Manifest(
        name="npu", summary="a backend of the tests", api=">=1,<2", recipes=("int8_static", "fp32"),
        requires=("json", "a.b"), runtime="NpuBackend",
    )  # fmt: skip


def test_nearest_manifest(site: Site) -> None:
    """Two plugins of one package each have their own; a subpackage without one has its parent's."""
    for package in ("", "one", "two"):
        site.write(site.folder / "fake_vendor" / package / "__init__.py", "")
    site.write(site.folder / "fake_vendor" / "quanthost.toml", toml(summary='"outer"'))
    site.write(site.folder / "fake_vendor" / "one" / "quanthost.toml", toml(summary='"inner"'))

    inner, _ = read("fake_vendor.one.plugin", plugin="npu")
    outer, _ = read("fake_vendor.two.plugin", plugin="npu")

    assert inner is not None
    assert outer is not None
    assert (inner.summary, outer.summary) == ("inner", "outer")


def test_missing(site: Site) -> None:
    """The error of a missing manifest names the folder that lacks it and how packages ship one."""
    folder = site.add(manifest=None)

    manifest, problem = read(MODULE, plugin="npu")

    assert manifest is None
    assert isinstance(problem, ManifestError)
    assert problem.seen == "no quanthost.toml for the module 'fake_npu.plugin'"
    assert problem.where == str(folder)
    assert problem.plugin == "npu"
    assert "[tool.setuptools.package-data] '*' = ['quanthost.toml']" in problem.remedy


def test_missing_package(site: Site) -> None:
    """Where the package itself is missing, the error says so."""
    _, problem = read(MODULE, plugin="npu")

    assert isinstance(problem, ManifestError)
    assert problem.where == "no package 'fake_npu' on sys.path"


@pytest.mark.parametrize("content", [b"name = ", b'name = "\xff"'], ids=["not-toml", "not-utf8"])
def test_unreadable(site: Site, content: bytes) -> None:
    """A file that is not TOML in UTF-8 is refused by its path."""
    path = site.add(manifest=None) / "quanthost.toml"
    path.write_bytes(content)

    manifest, problem = read(MODULE, plugin="npu")

    assert manifest is None
    assert isinstance(problem, ManifestError)
    assert problem.seen.startswith("a manifest that cannot be read: ")
    assert problem.where == str(path)


@pytest.mark.parametrize(
    ("fields", "field", "seen", "needed"),
    [
        ({"summary": None}, "summary", "missing", "a value"),
        ({"recepies": "[]"}, "recepies", "unknown", "one of the fields name, summary, api, recipes"),
        ({"name": '"gpu"'}, "name", "'gpu'", "'npu', the name of the entry point"),
        ({"summary": "1"}, "summary", "1 of type int", "str"),
        ({"api": "1"}, "api", "1 of type int", "str"),
        ({"recipes": '"fp32"'}, "recipes", "'fp32' of type str", "a tuple"),
        ({"recipes": "[8]"}, "recipes", "the name 8", "lower-case letters"),
        ({"recipes": '["FP32"]'}, "recipes", "the name 'FP32'", "lower-case letters"),
        ({"requires": '["torch>=2"]'}, "requires", "'torch>=2'", "names of importable modules"),
        ({"requires": '[""]'}, "requires", "''", "names of importable modules"),
    ],
)
def test_refused_field(
    manifest_of: ReadBack, fields: dict[str, str | None], field: str, seen: str, needed: str
) -> None:
    """Each refusal names the file and the field, what stands there and what should."""
    manifest, problem = manifest_of(toml(**fields))

    assert manifest is None
    assert isinstance(problem, ManifestError)
    assert problem.seen == f"the manifest's field '{field}': {seen}"
    assert problem.needed.startswith(needed)
    assert re.search(rf"fake_npu.quanthost\.toml, field {field}$", problem.where)


@pytest.mark.parametrize(
    ("fields", "is_read"), [({}, True), ({"novelty": "true"}, False)], ids=["known-fields", "new-fields"]
)
def test_api_of_another_host(manifest_of: ReadBack, fields: dict[str, str], is_read: bool) -> None:
    """Another API's range is the problem that is told, also where the file has fields of that API."""
    manifest, problem = manifest_of(toml(api='">=2"', **fields))

    assert (manifest is not None) is is_read
    assert isinstance(problem, ApiVersionError)
    assert problem.seen == "the plugin 'npu', made for the plugin API >=2"
    assert problem.needed == f"a range that contains {API_VERSION}, the plugin API of this quanthost"


def test_api_that_is_no_range(manifest_of: ReadBack) -> None:
    """A bare number in the field api is the manifest's error, with a range to write instead."""
    _, problem = manifest_of(toml(api='"1"'))

    assert isinstance(problem, ManifestError)
    assert problem.seen == "the manifest's field 'api': '1'"
    assert problem.needed == "a PEP 440 version range"
    assert problem.remedy == "write for example '>=1,<2'"


def info(*recipes: str, name: str = "npu") -> BackendInfo:
    """What a backend's code returns, with float recipes of those names."""
    return BackendInfo(name=name, recipes=[Recipe(name=r, kernel=Kernel.FLOAT) for r in recipes])


def manifest(*recipes: str) -> Manifest:
    """The manifest that belongs to it."""
    return Manifest(name="npu", summary="", api=">=1", recipes=recipes)


def test_code_that_agrees() -> None:
    """The order of the recipes is the code's own affair."""
    check_manifest(manifest("fp32", "int8"), info("int8", "fp32"))


@pytest.mark.parametrize(
    ("code", "field", "seen"),
    [
        (info("fp32", "int8", name="gpu"), "name", "the name [npu] in the manifest and [gpu] in the code"),
        (info("fp32"), "recipes", "the recipes [fp32, int8] in the manifest and [fp32] in the code"),
        (
            info("fp32", "int4", "int8"),
            "recipes",
            "the recipes [fp32, int8] in the manifest and [fp32, int4, int8] in the code",
        ),
    ],
    ids=["name", "recipe-not-coded", "recipe-not-stated"],
)
def test_code_that_differs(code: BackendInfo, field: str, seen: str) -> None:
    """A difference is refused with the field and both sides."""
    with pytest.raises(ManifestError) as caught:
        check_manifest(manifest("fp32", "int8"), code)

    assert caught.value.seen == seen
    assert caught.value.where == f"quanthost.toml and quanthost_backend_info, field {field}"
