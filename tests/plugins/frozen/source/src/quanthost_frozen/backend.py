"""The plugin object: a table, a constraint, a rewrite, and hooks of its own beside those of the table."""

from quanthost.api import (
    BackendInfo,
    Binding,
    DType,
    FixedQSpec,
    Gain,
    Granularity,
    Kernel,
    LoweringOptions,
    Problem,
    QSpec,
    QSpecChoice,
    Recipe,
    Refusal,
    Rewriter,
    Role,
    Row,
    SupportTable,
    Symmetry,
    TableBackend,
    argument,
    bind,
    constraint,
    hookimpl,
    op,
)


@constraint("at most 64 output channels", kernels={Kernel.STATIC})
def few_channels(site):
    channels = site.shape("weight")[0]
    return None if channels <= 64 else f"{channels} output channels"


CONV = op("conv2d", input="input", weight="weight", bias="bias?")
LINEAR = op("linear", input="input", weight="weight", bias="bias?")
GEMM = {
    "kernels": {Kernel.STATIC},
    "roles": {"weight": Role.WEIGHT, "bias": Role.BIAS},
    "constraints": [few_channels],
    "gain": Gain.DRIVES,
}
TABLE = SupportTable(
    [
        Row(name="conv", pattern=CONV, **GEMM),
        Row(name="conv_relu", pattern=op("relu", self=CONV), **GEMM),
        Row(name="linear", pattern=LINEAR, **GEMM),
        Row(
            name="view",
            pattern=op("flatten", "view", "reshape", self="input"),
            kernels={Kernel.STATIC},
            shares=("input", "output"),
        ),
        Row(
            name="sigmoid",
            pattern=op("sigmoid", self="input"),
            kernels={Kernel.STATIC},
            qspecs={"output": FixedQSpec(dtype=DType.INT8, scale=1 / 256, zero_point=-128)},
        ),
    ]
)
WEIGHT = QSpec(
    dtype=DType.INT8,
    quant_min=-127,
    granularity=Granularity.PER_CHANNEL,
    axis=0,
    symmetry=Symmetry.SYMMETRIC,
)
RECIPES = [
    Recipe(name="int8_static", kernel=Kernel.STATIC, activation=QSpec(dtype=DType.INT8), weight=WEIGHT),
    Recipe(name="fp32", kernel=Kernel.FLOAT),
]
RELU6 = op("hardtanh", "relu6", self="input")


def relu6_as_clamp(graph_module):
    """Write relu6 as the hardtanh that it is; a rewrite that binds a pattern and makes a node."""
    import torch

    for node in list(graph_module.graph.nodes):
        found = bind(RELU6, node) if node.op == "call_function" else None
        if isinstance(found, Binding) and argument(node, "min_val", None) is None:
            rewriter = Rewriter(graph_module, node)
            made = rewriter.call(torch.ops.aten.hardtanh.default, found.captures["input"], 0.0, 6.0)
            rewriter.replace_with(made)


class Frozen(TableBackend):
    @hookimpl
    def quanthost_choose_qspecs(self, match, request) -> QSpecChoice | Refusal:
        if request.option("keep") == match.row:
            return Refusal(reason=f"the option keeps {match.row} in float")
        return super().quanthost_choose_qspecs(match, request)

    @hookimpl
    def quanthost_validate(self, decisions) -> list[Problem]:
        return [
            Problem(node=d.node, message="a decision without a reason", remedy="report it")
            for d in decisions
            if not d.reason
        ]


backend = Frozen(
    info=BackendInfo(name="frozen", recipes=RECIPES, options=["keep"]),
    table=TABLE,
    rewrites=(relu6_as_clamp,),
    lowering=LoweringOptions(runtime_modules=("executorch.kernels.quantized",)),
)
