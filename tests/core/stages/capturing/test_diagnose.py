"""Diagnosis: models that cannot be traced, each with its line, construct, ExportDB case and rewrite."""

from __future__ import annotations

import dataclasses
import linecache
import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import torch
from torch import nn
from torch.export import Dim

from quanthost.errors import CaptureError
from quanthost.stages.capturing.capture import capture
from quanthost.stages.capturing.constructs import CONSTRUCTS, UNKNOWN, Construct
from quanthost.stages.capturing.diagnose import Diagnosis, diagnose

X = torch.ones(2, 3)
_LIBRARY = torch.library.Library("test_diagnose", "DEF")
_LIBRARY.define("nofake(Tensor x) -> Tensor")
_LIBRARY.impl("nofake", lambda x: x + 1, "CPU")
HISTORY: list[torch.Tensor] = [torch.zeros(2, 3)]


@dataclasses.dataclass
class Result:
    value: torch.Tensor


class Branch(nn.Module):
    def forward(self, x: Any) -> Any:
        if x.sum() > 0:
            return x + 1
        return x - 1


class Expression(nn.Module):
    def forward(self, x: Any) -> Any:
        return x if (x > 0).any() and (x < 9).all() else -x


class Multiline(nn.Module):
    def forward(self, x: Any) -> Any:
        if (
            self.training
            or x.min() < 0
        ):  # fmt: skip
            return x * 2
        return x


class Asserts(nn.Module):
    def forward(self, x: Any) -> Any:
        assert x.min() > -100
        return x * 2


class Loops(nn.Module):
    def forward(self, x: Any, n: Any) -> Any:
        for _ in range(n.item()):
            x = x * 2
        return x


class Waits(nn.Module):
    def forward(self, x: Any) -> Any:
        while x.sum() < 100:
            x = x * 2
        return x


class Indexes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def forward(self, x: Any, task: Any) -> Any:
        return self.heads[task](x)


class Selects(nn.Module):
    def forward(self, x: Any) -> Any:
        kept = x[x > 0]
        if kept.shape[0] > 2:
            return kept.sum()
        return x.sum()


class Converts(nn.Module):
    def forward(self, x: Any) -> Any:
        peak = float(x.max())
        return x / peak if peak > 1 else x


class UsesMath(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * math.sqrt(x.sum())


class Formats(nn.Module):
    def forward(self, x: Any) -> Any:
        print(f"{x.sum().item():.2f}")
        return x * 2


class Compares(nn.Module):
    def forward(self, x: Any, y: Any) -> Any:
        same = torch.equal(x, y)
        return x if same else y


class UnlikeBranches(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda x: x.sum(0), lambda x: x + 1, (x,))


class SizeBranch(nn.Module):
    def forward(self, x: Any) -> Any:
        if x.shape[0] == 2:
            return x.cos()
        return x.sin()


class SizeRange(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.cos() if x.shape[0] > 3 else x.sin()


class Reshapes(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.reshape(2, -1) * 2


class Adds(nn.Module):
    def forward(self, x: Any, y: Any) -> Any:
        return x + y


class Doubles(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * 2


class ReturnsSet(nn.Module):
    def forward(self, x: Any) -> Any:
        return {x * 2}


class ReturnsClass(nn.Module):
    def forward(self, x: Any) -> Any:
        return Result(x * 2)


class TakesClass(nn.Module):
    def forward(self, result: Any) -> Any:
        return result.value * 2


class CallsNoFake(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.ops.test_diagnose.nofake(x)


class CallsUnknown(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.ops.test_diagnose.absent(x)


class Imports(nn.Module):
    def forward(self, x: Any) -> Any:
        import package_that_is_absent

        return package_that_is_absent.run(x)


class UsesNumpy(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.from_numpy(x.numpy() * 2)


class ReadsMemory(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + x.data_ptr()


class Accumulates(nn.Module):
    def forward(self, x: Any) -> Any:
        HISTORY[0] = HISTORY[0] + x
        return HISTORY[0]


class Complains(nn.Module):
    def forward(self, x: Any) -> Any:
        raise LookupError("no such head")


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(3)

    def forward(self, x: Any) -> Any:
        return self.layer(x)


def torchscript() -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(nn.Linear(3, 3), X)


@attrs.frozen(kw_only=True)
class Case:
    """A model, and what its diagnosis must say."""

    model: Any
    inputs: Any = (X,)
    shapes: Any = None
    line: str | None
    construct: str
    rewrite: str
    case: str | None = None


ROWS_DIM = Dim("rows")
FORWARD = "def forward(self, x: Any) -> Any:"
CASES = {
    "branch": Case(
        model=Branch(), line="if x.sum() > 0:", case="cond_operands",
        construct="control flow on the value of a tensor", rewrite="torch.where(condition, a, b)",
    ),
    "conditional expression": Case(
        model=Expression(), case="cond_operands",
        line="return x if (x > 0).any() and (x < 9).all() else -x",
        construct="control flow on the value of a tensor", rewrite="torch.cond(condition",
    ),
    "condition over several lines": Case(
        model=Multiline(), line="or x.min() < 0", case="cond_operands",
        construct="control flow on the value of a tensor", rewrite="torch.where",
    ),
    "assertion": Case(
        model=Asserts(), line="assert x.min() > -100",
        construct="an assertion on the value of a tensor", rewrite="torch.compiler.is_exporting()",
    ),
    "for": Case(
        model=Loops(), inputs=(X, torch.tensor(2)), line="for _ in range(n.item()):",
        case="static_for_loop", construct="a loop whose length depends on the value of a tensor",
        rewrite="a fixed number of times",
    ),
    "while": Case(
        model=Waits(), line="while x.sum() < 100:", case="static_for_loop",
        construct="a loop whose length depends on the value of a tensor", rewrite="torch.where",
    ),
    "index": Case(
        model=Indexes(), inputs=(X, torch.tensor(1)), line="return self.heads[task](x)",
        case="constrain_as_value_example", construct="a Python integer taken from a tensor",
        rewrite="pass it as an int",
    ),
    "size from values": Case(
        model=Selects(), line="if kept.shape[0] > 2:", case="constrain_as_size_example",
        construct="a decision on a size that depends on the values of a tensor",
        rewrite="torch.where(mask, x, 0) in place of x[mask]",
    ),
    "conversion": Case(
        model=Converts(), line="peak = float(x.max())", case="constrain_as_value_example",
        construct="a Python number made from the value of a tensor",
        rewrite="x / x.max() in place of x / float(x.max())",
    ),
    "math": Case(
        model=UsesMath(), line="return x * math.sqrt(x.sum())", case="constrain_as_value_example",
        construct="a Python number made from the value of a tensor",
        rewrite="torch.sqrt in place of math.sqrt",
    ),
    "format": Case(
        model=Formats(), line='print(f"{x.sum().item():.2f}")', case="constrain_as_value_example",
        construct="a Python number made from the value of a tensor",
        rewrite="format outside of forward",
    ),
    "comparison": Case(
        model=Compares(), inputs=(X, X), line="same = torch.equal(x, y)", case="cond_operands",
        construct="a Python value that aten.equal.default computes from tensors",
        rewrite="(a == b).all() in place of torch.equal",
    ),
    "unlike branches": Case(
        model=UnlikeBranches(), case="cond_branch_class_method",
        line="return torch.cond(x.sum() > 0, lambda x: x.sum(0), lambda x: x + 1, (x,))",
        construct="torch.cond with branches that return different things",
        rewrite="of one number, shape and dtype",
    ),
    "example of size 1": Case(
        model=Doubles(), inputs=(X[:1],), shapes=({0: ROWS_DIM},), line=FORWARD,
        construct="the dynamic dimension rows with an example of size 1",
        rewrite="at least 2",
    ),
    "condition on a size": Case(
        model=SizeBranch(), shapes=({0: ROWS_DIM},), line="if x.shape[0] == 2:",
        case="dynamic_shape_if_guard",
        construct="the dynamic dimension rows, which a condition fixes at 2",
        rewrite="leave rows out of dynamic_shapes",
    ),
    "size fixed": Case(
        model=Reshapes(), shapes=({0: ROWS_DIM},), line=FORWARD, case="dynamic_shape_view",
        construct="the dynamic dimension rows, which the model fixes at 2",
        rewrite="x.reshape(x.shape[0], -1) in place of x.reshape(2, -1)",
    ),
    "range of a size": Case(
        model=SizeRange(), shapes=({0: ROWS_DIM},), case="dynamic_shape_if_guard",
        line="return x.cos() if x.shape[0] > 3 else x.sin()",
        construct="the dynamic dimension rows, whose range is wider than the model allows",
        rewrite="declare it as torch suggests: rows = Dim('rows', max=3)",
    ),
    "equal sizes": Case(
        model=Adds(), inputs=(X, X), shapes=({0: ROWS_DIM}, {0: Dim("lines")}),
        line="def forward(self, x: Any, y: Any) -> Any:",
        construct="the dynamic dimensions lines and rows, which the model takes to be equal",
        rewrite="the same torch.export.Dim for both",
    ),
    "example outside": Case(
        model=Doubles(), inputs=(torch.ones(9, 3),), shapes=({0: Dim("rows", max=4)},), line=FORWARD,
        construct="an example input outside of the range of its dynamic dimension: 9 not in range [2, 4]",
        rewrite="widen the torch.export.Dim",
    ),
    "unknown name in dynamic_shapes": Case(
        model=Doubles(), shapes={"y": {0: ROWS_DIM}}, line=FORWARD,
        construct="dynamic_shapes that do not fit the inputs: When `dynamic_shapes` is specified as a"
        " dict, its top-level keys must be the arg names ['x'] of `inputs`, but here they are ['y']."
        " Alternatively, you could also ignore arg names entirely and specify `dynamic_shapes` as a"
        " list/tuple matching `inputs`.",
        rewrite="write {0: torch.export.Dim('batch')}",
    ),
    "result of a builtin class": Case(
        model=ReturnsSet(), line=FORWARD, construct="a result of type set",
        rewrite="return a tuple or a dictionary of tensors",
    ),
    "result of an own class": Case(
        model=ReturnsClass(), line=FORWARD, construct=f"a result of type {__name__}.Result",
        rewrite=f"torch.export.register_dataclass({__name__}.Result)",
    ),
    "argument of an own class": Case(
        model=TakesClass(), inputs=(Result(X),), construct=f"an argument of type {__name__}.Result",
        line="def forward(self, result: Any) -> Any:",
        rewrite=f"torch.export.register_dataclass({__name__}.Result)",
    ),
    "operator without fake implementation": Case(
        model=CallsNoFake(), line="return torch.ops.test_diagnose.nofake(x)",
        construct="the operator test_diagnose.nofake.default, which has no fake implementation",
        rewrite="@torch.library.register_fake",
    ),
    "unknown operator": Case(
        model=CallsUnknown(), line="return torch.ops.test_diagnose.absent(x)",
        construct="the unknown operator test_diagnose::absent", rewrite="torch.ops.load_library",
    ),
    "import": Case(
        model=Imports(), line="import package_that_is_absent",
        construct="an import that fails: No module named 'package_that_is_absent'",
        rewrite="install the package",
    ),
    "too many inputs": Case(
        model=Doubles(), inputs=(X, X), line=FORWARD, case="fn_with_kwargs",
        construct="inputs that do not fit forward(x): too many positional arguments",
        rewrite="inputs=([a, b],)",
    ),
    "too few inputs": Case(
        model=Doubles(), inputs=(), line=FORWARD, case="fn_with_kwargs",
        construct="inputs that do not fit forward(x): missing a required argument: 'x'",
        rewrite="the rest in kwargs",
    ),
    "numpy": Case(
        model=UsesNumpy(), line="return torch.from_numpy(x.numpy() * 2)",
        construct="a tensor whose memory is read outside of torch, by NumPy or other code",
        rewrite="use torch operators",
    ),
    "memory": Case(
        model=ReadsMemory(), line="return x + x.data_ptr()",
        construct="a tensor whose memory is read outside of torch, by NumPy or other code",
        rewrite="pass the result as an input",
    ),
    "lazy module": Case(
        model=Lazy(), line=FORWARD, construct="a lazy module that has no weights yet",
        rewrite="run one batch through the model",
    ),
    "TorchScript": Case(
        model=torchscript(), line=None, construct="a TorchScript module",
        rewrite="capture the nn.Module",
    ),
    "unknown": Case(
        model=Complains(), line='raise LookupError("no such head")',
        construct="LookupError: no such head", rewrite="run model(*inputs) by itself",
    ),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def refused(case: Case) -> CaptureError:
    with pytest.raises(CaptureError) as caught:
        capture(case.model, case.inputs, dynamic_shapes=case.shapes)
    return caught.value


@each_case
def test_line_construct_case_and_rewrite(case: Case) -> None:
    """All four, in the message and in the record; the line is where it is said to be."""
    error = refused(case)
    found = error.value
    assert isinstance(found, Diagnosis)
    assert (found.construct, found.case) == (error.seen, case.case)
    assert error.seen == case.construct
    assert case.rewrite in error.remedy
    assert error.stage == "capture"
    if case.case is not None:
        assert f"the case {case.case} of torch._export.db (ExportDB)" in error.remedy
    if case.line is None:
        assert found.location is None
        return
    assert found.location is not None
    assert linecache.getline(__file__, found.location.line).strip() == case.line
    owner = type(case.model).__name__
    assert error.where == f"{__file__}:{found.location.line}, in forward of {owner}: {case.line}"


@each_case
def test_the_original_exception_is_the_cause(case: Case) -> None:
    """Torch's own words stay at hand."""
    cause = refused(case).__cause__
    assert cause is not None
    assert not isinstance(cause, CaptureError)


def test_a_tensor_of_an_earlier_trace_in_a_global_variable() -> None:
    """The first capture leaves it there, the second one meets it."""
    before = list(HISTORY)
    try:
        capture(Accumulates(), X)
        with pytest.raises(CaptureError, match="a tensor of an earlier trace") as caught:
            capture(Accumulates(), X)
    finally:
        HISTORY[:] = before
    assert caught.value.value.case == "model_attr_mutation"
    assert "return its new value" in caught.value.remedy


def template(text: str) -> re.Pattern[str]:
    """A row's text as a pattern, in which what it fills in may be anything."""
    return re.compile(
        re.sub(r"\\\{\w+\\\}", ".*", re.escape(text)).replace(r"\{\{", r"\{").replace(r"\}\}", r"\}")
    )


# that of a tensor of an earlier trace takes two captures, and has a test of its own
REACHED_BY_ONE_CAPTURE = [row for row in (*CONSTRUCTS, UNKNOWN) if row.case != "model_attr_mutation"]


@pytest.mark.parametrize("row", REACHED_BY_ONE_CAPTURE, ids=lambda row: row.construct)
def test_every_construct_has_a_model(row: Construct) -> None:
    """A row that no model reaches is dead, or hidden by an earlier one."""
    reached = [
        name
        for name, case in CASES.items()
        if template(row.construct).fullmatch(case.construct)
        and template(row.rewrite).match(refused(case).remedy)
    ]
    assert reached


def test_every_case_is_one_of_exportdb() -> None:
    """By the name under which its example is registered."""
    from torch._export.db.examples import all_examples

    assert {row.case for row in CONSTRUCTS if row.case is not None} <= set(all_examples())


def test_the_innermost_line_of_the_users_is_found() -> None:
    """Not that of the model that calls it, nor one of torch between the two."""

    def clamp(x: torch.Tensor) -> torch.Tensor:
        return x if x.max() < 1 else x / x.max()

    class Inner(nn.Module):
        def forward(self, x: Any) -> Any:
            return clamp(x)

    with pytest.raises(CaptureError) as caught:
        capture(nn.Sequential(nn.ReLU(), Inner()), X)
    assert caught.value.where.endswith("in clamp of Sequential: return x if x.max() < 1 else x / x.max()")


def test_code_without_a_file_has_no_text() -> None:
    """A model typed in elsewhere is still diagnosed."""
    scope: dict[str, Any] = {"nn": nn}
    text = "class M(nn.Module):\n    def forward(self, x):\n        return x if x.sum() > 0 else -x\n"
    exec(compile(text, "<typed in>", "exec"), scope)
    with pytest.raises(CaptureError, match="control flow on the value of a tensor") as caught:
        capture(scope["M"](), X)
    assert caught.value.where == "<typed in>:3, in forward of M"


def test_torchs_own_modules_have_no_line() -> None:
    """The class is all there is to name."""
    with pytest.raises(CaptureError, match=r"inputs that do not fit forward\(input") as caught:
        capture(nn.ReLU(), (X, X))
    assert caught.value.where == "ReLU"


def test_a_long_message_is_shortened() -> None:
    """Torch's page-long explanations stay in the cause."""
    error = diagnose(RuntimeError("word " * 500 + "\n\nmore"), Doubles())
    assert len(error.seen) < 400
    assert error.seen.endswith(" …")


class Where(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.where(x.sum() > 0, x + 1, x - 1)


class Cond(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


class AssertsOutside(nn.Module):
    def forward(self, x: Any) -> Any:
        if not torch.compiler.is_exporting():
            assert x.min() > -100
        return x * 2


class KeepsSize(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.where(x > 0, x, 0).sum()


class ChecksSize(nn.Module):
    def forward(self, x: Any) -> Any:
        kept = x[x > -100]
        torch._check(kept.shape[0] > 2)
        return kept.sum() if kept.shape[0] > 2 else x.sum()


class StaysTensor(nn.Module):
    def forward(self, x: Any) -> Any:
        return x / x.max() * torch.sqrt(x.abs().sum())


class ComparesTensors(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.where((x == x.abs()).all(), x, -x)


class LoopsFixed(nn.Module):
    def forward(self, x: Any) -> Any:
        for _ in range(6):
            x = torch.where(x.sum() < 100, x * 2, x)
        return x


REWRITES = (Where, Cond, AssertsOutside, KeepsSize, ChecksSize, StaysTensor, ComparesTensors, LoopsFixed)


def signed() -> Iterator[torch.Tensor]:
    yield X
    yield -X


@pytest.mark.parametrize("kind", REWRITES, ids=lambda kind: kind.__name__)
def test_the_rewrites_can_be_captured(kind: type[nn.Module]) -> None:
    """What a remedy recommends works, and takes either path by the values of its input."""
    captured = capture(kind(), X)
    run = captured.exported.module(check_guards=False)
    for x in signed():
        assert torch.equal(run(x), kind()(x))
