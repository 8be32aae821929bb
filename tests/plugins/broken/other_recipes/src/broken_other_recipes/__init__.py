"""Its manifest promises a recipe that its code does not have."""

from quanthost.api import BackendInfo, Kernel, Recipe, SupportTable, TableBackend

FP32 = Recipe(name="fp32", kernel=Kernel.FLOAT)
backend = TableBackend(info=BackendInfo(name="other_recipes", recipes=[FP32]), table=SupportTable([]))
