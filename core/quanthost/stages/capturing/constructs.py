"""The table of Python constructs that tracing cannot follow: how to recognize each, and its usual rewrite."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

__all__ = ["CONSTRUCTS", "UNKNOWN", "Construct"]


def _pattern(text: str | None) -> re.Pattern[str] | None:
    return None if text is None else re.compile(text, re.DOTALL)


@attrs.frozen(kw_only=True)
class Construct:
    """One construct; it matches an error if every field that is set matches.

    ``error`` names the class of the exception or one of its bases, ``message`` searches its text, ``line``
    searches the source line at fault, and ``running`` says whether a line of the user's code was running. The
    texts may use ``{error}``, ``{said}`` (the first paragraph of the message), ``{forward}`` (its signature)
    and the named groups of ``message``. ``case`` is a name in ``torch._export.db.examples``.
    """

    construct: str
    needed: str
    rewrite: str
    case: str | None = None
    error: str | None = None
    message: re.Pattern[str] | None = attrs.field(default=None, converter=_pattern)
    line: re.Pattern[str] | None = attrs.field(default=None, converter=_pattern)
    running: bool | None = None

    def match(
        self, kinds: frozenset[str], message: str, line: str, running: bool
    ) -> Mapping[str, str | None] | None:
        """The named groups of ``message`` if the construct matches, else ``None``."""
        if self.error is not None and self.error not in kinds:
            return None
        if self.running is not None and self.running != running:
            return None
        if self.line is not None and not self.line.search(line):
            return None
        if self.message is None:
            return {}
        match = self.message.search(message)
        return None if match is None else match.groupdict()


_BY_VALUE = "GuardOnDataDependentSymNode"
_NO_VALUES = "one path for all values: a trace knows shapes and dtypes, but no values"
_ANY_SIZE = "one path for all sizes of a dynamic dimension"
_CONTAINERS = "tensors, numbers, text and None in tuples, lists, dictionaries or registered classes"
_STATELESS = "no tensor that outlives a call, except the model's parameters and buffers"

CONSTRUCTS: tuple[Construct, ...] = (
    Construct(
        construct="an assertion on the value of a tensor",
        error=_BY_VALUE, line=r"^assert\b", needed=_NO_VALUES,
        rewrite="leave it out of the trace: if not torch.compiler.is_exporting(): assert ...",
    ),
    Construct(
        construct="a loop whose length depends on the value of a tensor",
        error=_BY_VALUE, line=r"^(for|while)\b", needed=_NO_VALUES, case="static_for_loop",
        rewrite="loop a fixed number of times and keep what is finished with torch.where, or loop in the"
        " code that calls the model",
    ),
    Construct(
        construct="a Python integer taken from a tensor",
        error=_BY_VALUE, message="Could not extract specialized integer", needed=_NO_VALUES,
        case="constrain_as_value_example",
        rewrite="pass it as an int, which the trace fixes; or stay with tensors: torch.index_select in"
        " place of a Python index",
    ),
    Construct(
        construct="a decision on a size that depends on the values of a tensor",
        error=_BY_VALUE, message=r"Size-like symbols: (?!none)", needed=_NO_VALUES,
        case="constrain_as_size_example",
        rewrite="keep the size fixed: torch.where(mask, x, 0) in place of x[mask], topk in place of"
        " nonzero; or state the outcome beforehand with torch._check(size > 2)",
    ),
    Construct(
        construct="a Python number made from the value of a tensor",
        error=_BY_VALUE, needed=_NO_VALUES, case="constrain_as_value_example",
        line=r"^(?!.*\b(if|and|or|not)\b).*(\b(int|float|bool)\(|\bmath\.|\.item\(|\.tolist\()",
        rewrite="keep it a tensor: x / x.max() in place of x / float(x.max()), torch.sqrt in place of"
        " math.sqrt",
    ),
    Construct(
        construct="control flow on the value of a tensor",
        error=_BY_VALUE, needed=_NO_VALUES, case="cond_operands",
        rewrite="compute both and select: torch.where(condition, a, b); where only one may run,"
        " torch.cond(condition, true_fn, false_fn, (x,))",
    ),
    Construct(
        construct="a Python number made from the value of a tensor",
        error="TypeError", message=r"\bSym(Int|Float|Bool)\b", needed=_NO_VALUES,
        case="constrain_as_value_example",
        rewrite="keep it a tensor, and print or format outside of forward",
    ),
    Construct(
        construct="a Python value that {op} computes from tensors",
        error="DataDependentOutputException", message=r"^(?P<op>[\w.]+)", needed=_NO_VALUES,
        case="cond_operands",
        rewrite="use tensors: (a == b).all() in place of torch.equal, torch.isclose(a, b).all() in place"
        " of torch.allclose, and select with torch.where",
    ),
    Construct(
        construct="torch.cond with branches that return different things",
        message=r"torch\.cond,?\s+expected|Unmatched output spec from torch\.cond",
        needed="branches with as many tensors, of the same shapes and dtypes",
        case="cond_branch_class_method",
        rewrite="return tensors of one number, shape and dtype from both functions",
    ),
    Construct(
        construct="the dynamic dimension {dim} with an example of size {size}",
        message=r"You marked (?P<dim>\w+) as dynamic but your code specialized it to be a constant"
        r" \((?P<size>[01])\)",
        needed="an example of size 2 or more: sizes 0 and 1 have rules of their own in torch",
        rewrite="pass example inputs that have at least 2 there",
    ),
    Construct(
        construct="the dynamic dimension {dim}, which a condition fixes at {size}",
        message=r"You marked (?P<dim>\w+) as dynamic but your code specialized it to be a constant"
        r" \((?P<size>\d+)\)",
        line=r"\b(if|elif|while|assert)\b", needed=_ANY_SIZE, case="dynamic_shape_if_guard",
        rewrite="do not compare the size with a number, or leave {dim} out of dynamic_shapes",
    ),
    Construct(
        construct="the dynamic dimension {dim}, which the model fixes at {size}",
        message=r"You marked (?P<dim>\w+) as dynamic but your code specialized it to be a constant"
        r" \((?P<size>\d+)\)",
        needed=_ANY_SIZE, case="dynamic_shape_view",
        rewrite="take sizes from the tensor: x.reshape(x.shape[0], -1) in place of x.reshape({size}, -1);"
        " or leave {dim} out of dynamic_shapes where weights fix it",
    ),
    Construct(
        construct="the dynamic dimension {dim}, whose range is wider than the model allows",
        message=r"Not all values of (?P<dim>\w+) .*Suggested fixes:\s+(?P<fix>\S[^\n]*(\n  [^\n]+)*)",
        needed=_ANY_SIZE, case="dynamic_shape_if_guard",
        rewrite="declare it as torch suggests: {fix}",
    ),
    Construct(
        construct="the dynamic dimensions {dim} and {other}, which the model takes to be equal",
        message=r"The values of (?P<dim>\w+) = \S+ and (?P<other>\w+) = \S+ must always be equal",
        needed="one torch.export.Dim for sizes that are always equal",
        rewrite="use the same torch.export.Dim for both",
    ),
    Construct(
        construct="an example input outside of the range of its dynamic dimension: {said}",
        error="ConstraintViolationError", message="not in range", needed="examples inside of all ranges",
        rewrite="widen the torch.export.Dim, or pass another example",
    ),
    Construct(
        construct="dynamic_shapes that do not fit the inputs: {said}",
        error="UserError", message="dynamic_shapes",
        needed="an entry for each argument of {forward}, by name or in order",
        rewrite="write {{0: torch.export.Dim('batch')}} for a tensor whose first dimension varies, None"
        " for an argument that is fixed",
    ),
    Construct(
        construct="a result of type {kind}",
        message=r"Found <class '(?P<kind>\w+)'> in output",
        needed=_CONTAINERS,
        rewrite="return a tuple or a dictionary of tensors",
    ),
    Construct(
        construct="a result of type {kind}",
        message=r"Found <class '(?P<kind>[^']+)'> in output",
        needed=_CONTAINERS,
        rewrite="return a tuple or a dictionary of tensors; a dataclass may be registered once with"
        " torch.export.register_dataclass({kind})",
    ),
    Construct(
        construct="an argument of type {kind}",
        message=r"Unsupported input type <class '(?P<kind>[^']+)'>",
        needed=_CONTAINERS,
        rewrite="pass its tensors; a dataclass may be registered once with"
        " torch.export.register_dataclass({kind})",
    ),
    Construct(
        construct="the operator {op}, which has no fake implementation",
        error="UnsupportedOperatorException", message=r"^(?P<op>[\w.]+)",
        needed="for each custom operator a function that gives the shape and dtype of its result",
        rewrite="write one under @torch.library.register_fake, and import it before capture",
    ),
    Construct(
        construct="the unknown operator {space}::{op}",
        message=r"'_OpNamespace' '(?P<space>\w+)' object has no attribute '(?P<op>\w+)'",
        needed="an operator that is registered in this process",
        rewrite="import the package that registers it, or torch.ops.load_library its library, before"
        " capture",
    ),
    Construct(
        construct="an import that fails: {said}",
        error="ImportError", needed="all that forward imports",
        rewrite="install the package, or import it at the top of the module and only where it is there",
    ),
    Construct(
        construct="inputs that do not fit {forward}: {said}",
        error="TypeError", running=False, case="fn_with_kwargs",
        message="too many positional|missing a required|unexpected keyword|multiple values",
        needed="the arguments that forward takes",
        rewrite="pass inputs as a tuple in the order of forward, and the rest in kwargs; an argument that"
        " is itself a list goes into a tuple: inputs=([a, b],)",
    ),
    Construct(
        construct="a tensor whose memory is read outside of torch, by NumPy or other code",
        message=r"\.numpy\(\) is not supported|Cannot access data pointer",
        needed="tensor operations only: in a trace, tensors have no memory",
        rewrite="use torch operators, or compute it before and pass the result as an input",
    ),
    Construct(
        construct="a tensor of an earlier trace, which forward kept in a global variable or attribute",
        message="fake tensor in the exported program constant's list", needed=_STATELESS,
        case="model_attr_mutation",
        rewrite="pass the state as an input and return its new value; then make the model anew, for this"
        " one still holds the other trace's tensor",
    ),
    Construct(
        construct="a lazy module that has no weights yet",
        message="uninitialized parameter", needed="a model whose parameters have shapes",
        rewrite="run one batch through the model before capture",
    ),
    Construct(
        construct="a TorchScript module",
        message="Exporting a ScriptModule", needed="a model in Python",
        rewrite="capture the nn.Module that it was scripted or traced from",
    ),
)  # fmt: skip

UNKNOWN = Construct(
    construct="{error}: {said}",
    needed="a forward that torch.export can trace",
    rewrite="run model(*inputs) by itself: if that fails too, correct the model or the inputs; if not,"
    " rewrite this line with tensor operations",
)
