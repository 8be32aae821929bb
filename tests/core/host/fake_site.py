"""Distributions that exist only as files in a folder: metadata, entry points, package and manifest."""

from __future__ import annotations

from pathlib import Path

MANIFEST = """\
name = "{name}"
summary = "a backend of the tests"
api = ">=1,<2"
recipes = ["int8_static", "fp32"]
"""
PLUGIN = "class Backend:\n    pass\n"


class Site:
    """A folder that takes distributions: a ``.dist-info`` folder and a package each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        name: str = "npu",
        *,
        distribution: str | None = None,
        version: str = "1.0",
        package: str | None = None,
        value: str | None = None,
        manifest: str | None = "",
        code: str = PLUGIN,
        group: str = "quanthost.backends",
        requires: tuple[str, ...] = (),
    ) -> Path:
        """Write one that registers ``name``; returns its package's folder.

        The manifest is a valid one followed by ``manifest``, or none where that is ``None``.
        """
        package = f"fake_{name}" if package is None else package
        value = f"{package}.plugin:Backend" if value is None else value
        entry_points = f"[{group}]\n{name} = {value}\n"
        self.add_metadata(distribution or f"fake-{name}", version, entry_points, requires=requires)
        folder = self.folder.joinpath(*package.split("."))
        self.write(folder / "__init__.py", "")
        self.write(folder / "plugin.py", code)
        if manifest is not None:
            self.write(folder / "quanthost.toml", MANIFEST.format(name=name) + manifest)
        return folder

    def add_metadata(
        self, distribution: str, version: str, entry_points: str, *, requires: tuple[str, ...] = ()
    ) -> Path:
        """Write the ``.dist-info`` folder alone."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        lines = [f"Name: {distribution}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        self.write(info / "METADATA", "\n".join(["Metadata-Version: 2.1", *lines]) + "\n")
        self.write(info / "entry_points.txt", entry_points)
        return info

    @staticmethod
    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
