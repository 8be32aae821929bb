"""Faults of what is kept: programs, options, the manifest; and of programs as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from chip_backends import INFO, Sound, delegating
from chip_simulator import Machine, SimulatedChip
from executorch.exir.backend.compile_spec_schema import CompileSpec
from seeded import Faulty
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
    """What a run has made is added to what the next one makes."""

    held: Any = None

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        made = super().run(inputs)
        kept, KeepsSums.held = KeepsSums.held, [each.clone() for each in made]
        if kept is None or [each.shape for each in kept] != [each.shape for each in made]:
            return made
        return [(each.int() + before).clamp(-128, 127).to(each.dtype) for each, before in zip(made, kept)]


class Swaps(Machine):
    """Hands three results of one shape out as it gets done with them, the last one first."""

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        made = super().run(inputs)
        return made[::-1] if len(made) == 3 and len({each.shape for each in made}) == 1 else made


class WritesInputs(Sound):
    """Uses the memory of the inputs for what it computes."""

    @hookimpl
    def quanthost_create_runner(self, program: bytes, pieces: tuple[PieceRecord, ...]) -> Runner | None:
        run = super().quanthost_create_runner(program, pieces)

        def runs(inputs: list[Any]) -> list[Any]:
            assert run is not None
            made = run(inputs)
            inputs[0].zero_()
            return made

        return None if run is None else runs


class TrustsOptions(Sound):
    """Rounds its memory option up, whatever it is."""

    @hookimpl
    def quanthost_create_partitioners(self, request: Request) -> Any:
        given = request.option("memory_kb", 64)
        self.memory = given if isinstance(given, int) and given > 0 else 64
        return super().quanthost_create_partitioners(request)


def _written(folder: Path) -> str:
    """A distribution whose manifest is not what its code says."""
    package, info = folder / "quanthost_chip", folder / "quanthost_chip-0.1.dist-info"
    for made in (package, info):
        made.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "backend.py").write_text(_PLUGIN)
    (package / "quanthost.toml").write_text(_MANIFEST)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quanthost-chip\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[quanthost.backends]\nchip = quanthost_chip.backend:backend\n")
    return "chip"


def _faulty(name: str, fault: str, given: Sound, only: str, area: Area = Area.PERSISTENCE) -> Faulty:
    return Faulty(name=name, fault=fault, area=area, only=(only,), make=lambda _: given)


FAULTS = (
    Faulty(
        name="manifest_disagrees", fault="The manifest names another runtime than the code.",
        area=Area.PERSISTENCE, only=("persistence/manifest",), make=_written,
    ),
    _faulty("numbers_its_builds", "Each program holds the number of its build: no two are the same.",
            delegating(compile_specs=(CompileSpec("suffix", b"build"),)), "persistence/program/*"),
    _faulty("keeps_sums", "A run leaves something behind for the next one.",
            delegating(machine=KeepsSums), "persistence/runs/*"),
    _faulty("writes_inputs", "The runner writes into the inputs that it was given.",
            delegating(WritesInputs), "persistence/runs/*"),
    _faulty("trusts_options", "An option takes any value, and what makes no sense is ignored.",
            delegating(TrustsOptions, info=attrs.evolve(INFO, options=("memory_kb",))),
            "persistence/option/*"),
    _faulty("swaps_results", "Three results of one partition are handed out in the wrong order.",
            delegating(machine=Swaps), "networks/transformer/*", Area.NETWORKS),
)  # fmt: skip
