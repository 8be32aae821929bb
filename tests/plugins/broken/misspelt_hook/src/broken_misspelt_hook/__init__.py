"""One of its hooks has a name that does not exist."""

from quanthost.api import BackendInfo, Kernel, Recipe, SupportTable, TableBackend, hookimpl


class Backend(TableBackend):
    @hookimpl
    def quanthost_choose_qspec(self, match):  # type: ignore[no-untyped-def]
        return None


FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
backend = Backend(info=BackendInfo(name="misspelt_hook", recipes=[FP32]), table=SupportTable([]))
