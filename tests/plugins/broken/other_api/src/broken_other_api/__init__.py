"""It is made for a plugin API that is yet to come."""

from quanthost.api import BackendInfo, Kernel, Recipe, SupportTable, TableBackend

FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
backend = TableBackend(info=BackendInfo(name="other_api", recipes=[FP32]), table=SupportTable([]))
