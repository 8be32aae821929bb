"""It requires a module that is not there."""

from quanthost.api import BackendInfo, Kernel, Recipe, SupportTable, TableBackend

FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
backend = TableBackend(info=BackendInfo(name="missing_module", recipes=[FP32]), table=SupportTable([]))
