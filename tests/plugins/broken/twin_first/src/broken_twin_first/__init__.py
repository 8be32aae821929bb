"""One of two distributions that claim a name."""

from quanthost.api import BackendInfo, Kernel, Recipe, SupportTable, TableBackend

FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
backend = TableBackend(info=BackendInfo(name="twin", recipes=[FP32]), table=SupportTable([]))
