"""One of its hooks asks for something that the host does not hand out."""

from quanthost.api import BackendInfo, Kernel, Recipe, SupportTable, TableBackend, hookimpl


class Backend(TableBackend):
    @hookimpl
    def quanthost_validate(self, graph):  # type: ignore[no-untyped-def]
        return []


FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
backend = Backend(info=BackendInfo(name="wrong_argument", recipes=[FP32]), table=SupportTable([]))
