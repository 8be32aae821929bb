"""Tests of listing, loading and refusing plugins, each over distributions made for the case."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from fake_site import Site

import quanthost
from quanthost.errors import (
    ApiVersionError,
    BackendLoadError,
    BlockedBackendError,
    DuplicateBackendError,
    ManifestError,
    UnknownBackendError,
)
from quanthost.host.api_range import API_VERSION
from quanthost.host.discovery import Group, Policy, check_loaded, extensions, installed, load
from quanthost.values import BackendInfo, Kernel, Recipe

RAISES = "raise RuntimeError('the plugin was imported')\n"


def test_listing_imports_no_plugin(site: Site) -> None:
    """A plugin that raises on import is listed with its manifest and without a problem."""
    site.add("npu", version="3.1", code=RAISES)

    (npu,) = installed()

    assert (npu.name, npu.distribution, npu.version) == ("npu", "fake-npu", "3.1")
    assert npu.entry_point == "fake_npu.plugin:Backend"
    assert npu.manifest is not None
    assert npu.manifest.recipes == ("int8_static", "fp32")
    assert npu.problem is None
    assert "fake_npu" not in sys.modules


def test_nothing_installed(site: Site) -> None:
    """An empty site is an empty list, and the error for any name says so."""
    assert installed() == ()
    with pytest.raises(UnknownBackendError, match="none is installed"):
        load("npu")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("fake_npu.plugin:Backend", "an instance"),
        ("fake_npu.plugin:Backend.made", "an attribute"),
        ("fake_npu.plugin:backend", "an object"),
        ("fake_npu.plugin", "a module"),
    ],
)
def test_kinds_of_plugin_objects(site: Site, value: str, expected: str) -> None:
    """A class is called, everything else is returned as it is."""
    site.add("npu", value=value, code=(
        "from types import SimpleNamespace\n"
        "kind = 'a module'\n"
        "class Backend:\n"
        "    made = SimpleNamespace(kind='an attribute')\n"
        "    def __init__(self): self.kind = 'an instance'\n"
        "backend = SimpleNamespace(kind='an object')\n"
    ))  # fmt: skip

    assert load("npu").kind == expected  # type: ignore[attr-defined]


def test_unknown_name(site: Site) -> None:
    """The error has the nearest name, and says of every backend whether it could be used."""
    site.add("xnnpack_like")
    site.add("vulkan_like")
    site.add("broken", manifest=None)

    with pytest.raises(UnknownBackendError) as caught:
        load("xnnpak_like", Policy(blocked=("vulkan_like",)))

    assert caught.value.seen == "the backend 'xnnpak_like', which no installed distribution offers"
    assert caught.value.needed == (
        "the name of a backend (installed: xnnpack_like; blocked: vulkan_like;"
        " broken: broken (no quanthost.toml for the module 'fake_broken.plugin'))"
    )
    assert caught.value.where == "entry-point group quanthost.backends"
    assert caught.value.remedy == "ask for 'xnnpack_like'"


def test_unknown_name_near_to_none(site: Site) -> None:
    """Where no name is near, the remedy is to install."""
    site.add("npu")

    with pytest.raises(UnknownBackendError, match="to do:  install the distribution that offers it"):
        load("qqqqqq")


@pytest.mark.parametrize(
    ("policy", "remedy"),
    [
        (Policy(blocked=("npu",)), "remove '-npu' from QUANTHOST_BACKENDS or backends_allowed"),
        (Policy(allowed=("other",)), "add 'npu' to QUANTHOST_BACKENDS or backends_allowed"),
    ],
    ids=["blocked", "not-allowed"],
)
def test_blocked(site: Site, policy: Policy, remedy: str) -> None:
    """A blocked plugin is listed, refused when asked for, and its code never runs."""
    site.add("npu", code=RAISES)

    with pytest.raises(BlockedBackendError) as caught:
        load("npu", policy)

    assert caught.value.seen == "the backend 'npu', which is installed but may not be imported"
    assert str(policy) in caught.value.needed
    assert caught.value.where == "distribution fake-npu 1.0, entry point npu = fake_npu.plugin:Backend"
    assert caught.value.remedy == remedy
    assert isinstance(installed(policy)[0].problem, BlockedBackendError)
    assert "fake_npu" not in sys.modules


def test_environment_holds_without_a_policy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """``QUANTHOST_BACKENDS`` blocks where no policy is handed in."""
    site.add("npu")
    monkeypatch.setenv("QUANTHOST_BACKENDS", "-npu")

    with pytest.raises(BlockedBackendError):
        load("npu")
    assert type(load("npu", Policy())).__name__ == "Backend"


def test_two_claimants(site: Site) -> None:
    """Two distributions with one name are both listed, and the error names both with their versions."""
    site.add("npu", distribution="acme-npu", version="1.0", package="fake_acme")
    site.add("npu", distribution="blue-npu", version="2.5", package="fake_blue")
    site.add("other")

    with pytest.raises(DuplicateBackendError) as caught:
        load("npu")

    assert caught.value.seen == "the backend 'npu', registered by acme-npu 1.0 and by blue-npu 2.5"
    assert caught.value.remedy == "uninstall all but one: pip uninstall acme-npu or blue-npu"
    problems = [(found.distribution, type(found.problem)) for found in installed()]
    assert problems == [
        ("acme-npu", DuplicateBackendError),
        ("blue-npu", DuplicateBackendError),
        ("fake-other", type(None)),
    ]


def test_one_project_twice_on_the_path(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same project and version in two places of the path is one claimant."""
    site.add("npu")
    second = Site(tmp_path / "second")
    second.add("npu")
    monkeypatch.setattr(sys, "path", [*sys.path, str(second.folder)])

    assert type(load("npu")).__name__ == "Backend"


def test_api_version_before_import(site: Site) -> None:
    """A range that excludes the host is refused with both versions, and the plugin does not run."""
    folder = site.add("npu", code=RAISES)
    manifest = folder / "quanthost.toml"
    manifest.write_text(manifest.read_text().replace(">=1,<2", ">=2"))

    needed = re.escape(f"a range that contains {API_VERSION}")
    with pytest.raises(ApiVersionError, match=rf"plugin API >=2\n  needed: {needed}"):
        load("npu")
    assert "fake_npu" not in sys.modules


def test_manifest_problem_is_raised_on_demand(site: Site) -> None:
    """A wrong manifest is kept beside the name, and raised with file and field when asked for."""
    site.add("npu", manifest="colour = 'red'\n")

    (npu,) = installed()

    assert isinstance(npu.problem, ManifestError)
    with pytest.raises(ManifestError, match=r"where:  .*fake_npu.quanthost\.toml, field colour\n"):
        load("npu")


def test_missing_requirement(site: Site) -> None:
    """All missing modules are named before import, and those installed are not."""
    site.add("npu", code=RAISES, manifest="requires = ['json', 'fake_lib.fx', 'fake_other']\n")

    with pytest.raises(BackendLoadError) as caught:
        load("npu")

    assert caught.value.seen == "the backend 'npu', which lacks 'fake_lib.fx', 'fake_other'"
    assert caught.value.needed == "the modules that its manifest requires: json, fake_lib.fx, fake_other"
    assert caught.value.where == "distribution fake-npu 1.0, entry point npu = fake_npu.plugin:Backend"
    assert "fake_npu" not in sys.modules


@pytest.mark.parametrize(
    ("modules", "remedy"),
    [
        (["fake_lib.fx", "fake_lib.nn"], "pip install 'fake-lib[cpu]>=2.1'"),
        (["torchao", "executorch.exir"], "pip install 'quanthost[toolchain]'"),
        (["torch"], "pip install 'torch>=2.9'"),
        (["fake_a.part", "fake_b"], "install what provides 'fake_a.part' and 'fake_b'"),
        (["fake_lib", "fake_b"], "pip install 'fake-lib[cpu]>=2.1'; install what provides 'fake_b'"),
    ],
    ids=["declared", "toolchain", "declared-toolchain", "unknown", "mixed"],
)
def test_how_to_install(site: Site, monkeypatch: pytest.MonkeyPatch, modules: list[str], remedy: str) -> None:
    """What the distribution declares is installed as declared, the toolchain as the host has it proved."""
    for name in ("torch", "torchao", "executorch"):
        monkeypatch.setitem(sys.modules, name, None)
    declared = ("attrs", "fake-lib[cpu]>=2.1; python_version > '3'", "torch>=2.9")
    site.add("npu", requires=declared, manifest=f"requires = {modules}\n")

    with pytest.raises(BackendLoadError) as caught:
        load("npu")

    assert caught.value.remedy == remedy


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise OSError('no device')\n", "OSError: no device"),
        ("import sys\nsys.exit('good bye')\n", "SystemExit: good bye"),
        ("backend = 1\n", "AttributeError: module 'fake_npu.plugin' has no attribute 'Backend'"),
        ("class Backend:\n    def __init__(self, device): pass\n", "TypeError: Backend.__init__() missing"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
    ],
    ids=["raises", "exits", "no-object", "needs-arguments", "syntax"],
)
def test_failing_import(site: Site, code: str, cause: str) -> None:
    """The error names distribution, entry point, cause and remedy, and keeps the cause's traceback."""
    site.add("npu", code=code)

    with pytest.raises(BackendLoadError) as caught:
        load("npu")

    assert caught.value.seen.startswith(f"the backend 'npu' failed to load: {cause}")
    assert caught.value.where == "distribution fake-npu 1.0, entry point npu = fake_npu.plugin:Backend"
    assert caught.value.remedy == "repair or update fake-npu, or block it: QUANTHOST_BACKENDS=-npu"
    assert caught.value.plugin == "npu"
    assert caught.value.__cause__ is not None


def test_import_of_an_absent_module(site: Site) -> None:
    """A module that the plugin imports and its manifest forgot is named in the remedy."""
    site.add("npu", code="import fake_absent.part\n", requires=("fake-absent==1.2",))

    with pytest.raises(BackendLoadError, match=r"pip install 'fake-absent==1\.2'"):
        load("npu")


def test_import_of_an_absent_part(site: Site) -> None:
    """A part that a package lacks is the package's fault: installing it again would not bring it."""
    site.add("npu", code="import fake_npu.absent\n")

    with pytest.raises(BackendLoadError, match=r"fake_npu\.absent(.|\n)*to do:  repair or update fake-npu"):
        load("npu")


def test_interrupt_passes(site: Site) -> None:
    """An interrupt from the keyboard during an import is not the plugin's failure."""
    site.add("npu", code="raise KeyboardInterrupt\n")

    with pytest.raises(KeyboardInterrupt):
        load("npu")


def test_broken_plugins_disturb_no_other(site: Site) -> None:
    """With a plugin of every broken kind installed, the listing is whole and the sound one loads."""
    site.add("absent_manifest", manifest=None)
    site.add("wrong_manifest", manifest="colour = 'red'\n")
    site.add("needy", manifest="requires = ['fake_absent']\n")
    site.add("raising", code=RAISES)
    site.add_metadata("unreadable", "1.0", "[quanthost.backends]\nno value\n")
    site.add("sound")

    found = {plugin.name: type(plugin.problem) for plugin in installed()}

    assert found == {
        "absent_manifest": ManifestError,
        "needy": BackendLoadError,
        "raising": type(None),
        "sound": type(None),
        "unreadable": BackendLoadError,
        "wrong_manifest": ManifestError,
    }
    assert type(load("sound")).__name__ == "Backend"


def test_editable_install(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With metadata in one folder and the code in another of the path, the manifest is found."""
    source = Site(tmp_path / "source")
    source.add("npu")
    entry_points = "[quanthost.backends]\nnpu = fake_npu.plugin:Backend\n"
    info = site.add_metadata("fake-npu", "1.0", entry_points)
    site.write(info / "direct_url.json", '{"dir_info": {"editable": true}, "url": "file:///source"}')
    for leftover in source.folder.glob("*.dist-info/*"):
        leftover.unlink()
    monkeypatch.setattr(sys, "path", [*sys.path, str(source.folder)])

    (npu,) = installed()

    assert npu.problem is None
    assert type(load("npu")).__name__ == "Backend"


def test_extensions(site: Site) -> None:
    """Extensions come sorted by name; backends are not among them."""
    for name in ("smooth", "guard"):
        site.add(name, group="quanthost.extensions")
    site.add("npu")

    assert [(name, type(plugin).__name__) for name, plugin in extensions()] == [
        ("guard", "Backend"),
        ("smooth", "Backend"),
    ]


@pytest.mark.parametrize(
    ("manifest", "code", "seen"),
    [
        ("", "raise OSError('no device')\n", "the extension 'guard' failed to load: OSError: no device"),
        ("requires = ['fake_absent']\n", RAISES, "the extension 'guard', which lacks 'fake_absent'"),
        (None, RAISES, "no quanthost.toml for the module 'fake_guard.plugin'"),
    ],
    ids=["raises", "missing-module", "no-manifest"],
)
def test_broken_extension(site: Site, manifest: str | None, code: str, seen: str) -> None:
    """A broken extension is left out with a warning that says why; the others load."""
    site.add("guard", group="quanthost.extensions", manifest=manifest, code=code)
    site.add("smooth", group="quanthost.extensions")

    with pytest.warns(RuntimeWarning) as caught:
        found = extensions()

    assert [name for name, _ in found] == ["smooth"]
    assert [str(warning.message).splitlines()[0] for warning in caught] == [f"left out: {seen}"]


def test_extension_with_the_name_of_a_backend(site: Site) -> None:
    """It is left out with a warning that names both distributions; the backend loads."""
    site.add("npu")
    site.add("npu", distribution="fake-npu-guard", group="quanthost.extensions")
    site.add("smooth", group="quanthost.extensions")

    with pytest.warns(RuntimeWarning) as caught:
        found = extensions()

    assert [name for name, _ in found] == ["smooth"]
    (told,) = (str(warning.message).splitlines() for warning in caught)
    assert (
        told[0]
        == "left out: the extension 'npu', registered by fake-npu 1.0 as backend and by fake-npu-guard 1.0"
    )
    assert told[1] == "  needed: one distribution for a name"
    assert told[3] == "  to do:  uninstall all but one: pip uninstall fake-npu or fake-npu-guard"
    assert type(load("npu")).__name__ == "Backend"
    assert [backend.problem for backend in installed()] == [None]


def test_blocked_extension(site: Site) -> None:
    """A blocked extension is left out silently, its code never runs, and the listing says why."""
    site.add("guard", group="quanthost.extensions", code=RAISES)
    policy = Policy(blocked=("guard",))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extensions(policy) == ()
    (guard,) = installed(policy, group=Group.EXTENSIONS)
    assert isinstance(guard.problem, BlockedBackendError)
    assert "fake_guard" not in sys.modules


def test_loaded_code_against_its_manifest(site: Site) -> None:
    """A backend whose code has other recipes than its manifest is refused; one that agrees passes."""
    site.add("npu")
    site.add("other")
    int8, fp32 = (Recipe(name=name, kernel=Kernel.FLOAT) for name in ("int8_static", "fp32"))

    check_loaded("npu", BackendInfo(name="npu", recipes=(int8, fp32)))
    with pytest.raises(
        ManifestError, match=r"the recipes \[fp32, int8_static\] in the manifest and \[fp32\]"
    ):
        check_loaded("npu", BackendInfo(name="npu", recipes=(fp32,)))


def run_python(site: Site, code: str) -> str:
    """What a fresh interpreter prints that sees the site and the host."""
    path = os.pathsep.join([str(site.folder), str(Path(quanthost.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_listing_imports_no_torch(site: Site) -> None:
    """In a fresh interpreter, listing finds plugins that require torch, and imports nothing that is heavy."""
    site.add("npu", manifest="requires = ['torch', 'torchao', 'executorch.exir']\n", code=RAISES)

    output = run_python(site, (
        "import sys\n"
        "from quanthost.host import discovery\n"
        "assert 'npu' in [b.name for b in discovery.installed()]\n"
        "discovery.installed(group=discovery.Group.EXTENSIONS)\n"
        "heavy = ('torch', 'torchao', 'executorch', 'numpy', 'fake_npu', 'pluggy', 'rich', 'typer')\n"
        "print([m for m in heavy if m in sys.modules])\n"
    ))  # fmt: skip

    assert output == "[]"
