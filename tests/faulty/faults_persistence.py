"""Faults of programs, options and the manifest; and of programs as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from chip_backends import INFO, Sound, delegating
from chip_simulator import Machine, SimulatedChip
from executorch.exir.backend.compile_spec_schema import CompileSpec
from seeded import SeededFault
from torch import Tensor

from quanthost.api import PieceRecord, Request, Runner, hookimpl
from quanthost.testing import Area

__all__ = ["FAULTS"]

_MANIFEST = """\
name = "chip"
summary = "a chip"
api = ">=1,<2"
recipes = ["int8_static"]
runtime = "AnotherChip"
"""
_PLUGIN = """\
from chip_backends import delegating

backend = delegating()
"""
_built = itertools.count()
SimulatedChip.suffixes["build"] = lambda: str(next(_built)).encode()


class KeepsSums(Machine):
    """Adds the results of a run to those of the next one."""

    last: Any = None

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        results = super().run(inputs)
        last, KeepsSums.last = KeepsSums.last, [x.clone() for x in results]
        if last is None or [x.shape for x in last] != [x.shape for x in results]:
            return results
        return [(x.int() + before).clamp(-128, 127).to(x.dtype) for x, before in zip(results, last)]


class Swaps(Machine):
    """Returns three results of one shape in reverse order."""

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        results = super().run(inputs)
        return results[::-1] if len(results) == 3 and len({x.shape for x in results}) == 1 else results


class WritesInputs(Sound):
    """Uses the memory of the inputs for its own computation."""

    @hookimpl
    def quanthost_create_runner(self, program: bytes, pieces: tuple[PieceRecord, ...]) -> Runner | None:
        run = super().quanthost_create_runner(program, pieces)

        def runs(inputs: list[Any]) -> list[Any]:
            assert run is not None
            results = run(inputs)
            inputs[0].zero_()
            return results

        return None if run is None else runs


class TrustsOptions(Sound):
    """Replaces any wrong value of its memory option by the default."""

    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> Any:
        memory = request.option("memory_kb", 64)
        self.memory = memory if isinstance(memory, int) and memory > 0 else 64
        return super().quanthost_create_partitioners(request)


def _write_distribution(folder: Path) -> str:
    """Write a distribution whose manifest contradicts its code."""
    package, info = folder / "quanthost_chip", folder / "quanthost_chip-0.1.dist-info"
    for directory in (package, info):
        directory.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "backend.py").write_text(_PLUGIN)
    (package / "quanthost.toml").write_text(_MANIFEST)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quanthost-chip\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[quanthost.backends]\nchip = quanthost_chip.backend:backend\n")
    return "chip"


def _faulty(name: str, fault: str, backend: Sound, only: str, area: Area = Area.PERSISTENCE) -> SeededFault:
    return SeededFault(name=name, fault=fault, area=area, only=(only,), make=lambda _: backend)


FAULTS = (
    SeededFault(
        name="manifest_disagrees", fault="The manifest names a different runtime than the code.",
        area=Area.PERSISTENCE, only=("persistence/manifest",), make=_write_distribution,
    ),
    _faulty("numbers_its_builds", "Each program contains a build number: no two are the same.",
            delegating(compile_specs=(CompileSpec("suffix", b"build"),)), "persistence/program/*"),
    _faulty("keeps_sums", "A run keeps state that changes the next run.",
            delegating(machine=KeepsSums), "persistence/runs/*"),
    _faulty("writes_inputs", "The runner writes into its inputs.",
            delegating(WritesInputs), "persistence/runs/*"),
    _faulty("trusts_options", "An option accepts any value, and ignores those that make no sense.",
            delegating(TrustsOptions, info=attrs.evolve(INFO, options=("memory_kb",))),
            "persistence/option/*"),
    _faulty("swaps_results", "Three results of one partition are returned in the wrong order.",
            delegating(machine=Swaps), "networks/transformer/*", Area.NETWORKS),
)  # fmt: skip
