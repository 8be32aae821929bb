"""It ships no manifest."""

from quanthost.api import BackendInfo, Kernel, Recipe, SupportTable, TableBackend

FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
backend = TableBackend(info=BackendInfo(name="no_manifest", recipes=[FP32]), table=SupportTable([]))
