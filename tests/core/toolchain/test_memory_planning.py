"""Memory planning in the standard order of dimensions."""

from __future__ import annotations

from executorch.exir import ExecutorchBackendConfig
from executorch.exir.passes import MemoryPlanningPass

from quanthost.toolchain.memory_planning import in_standard_order


class Own(MemoryPlanningPass):
    """A backend's own planning."""


def test_settings_are_kept() -> None:
    """The planning of a configuration with its settings; one of another class as it is."""
    config = ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False))
    own = ExecutorchBackendConfig(memory_planning_pass=Own())

    planning = in_standard_order(config).memory_planning_pass
    assert isinstance(planning, MemoryPlanningPass)
    assert planning.alloc_graph_input is False
    assert type(planning) is not MemoryPlanningPass
    assert in_standard_order(own) is own
