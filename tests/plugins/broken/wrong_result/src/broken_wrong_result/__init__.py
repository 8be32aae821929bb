"""One of its hooks returns names where matches are needed."""

from quanthost.api import BackendInfo, Kernel, Recipe, SupportTable, TableBackend, hookimpl


class Backend(TableBackend):
    @hookimpl
    def quanthost_annotate(self, graph_module):  # type: ignore[no-untyped-def]
        return [node.name for node in graph_module.graph.nodes]


FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
backend = Backend(info=BackendInfo(name="wrong_result", recipes=[FP32]), table=SupportTable([]))
