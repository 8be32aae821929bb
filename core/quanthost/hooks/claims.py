"""Finds a support table's claims on an edge graph: sites whose q/dq nodes fit one of the row's kernels."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx
from torch.export import ExportedProgram
from torch.library import OpOverload

from quanthost.graph.matcher import match_table
from quanthost.graph.operators import name_matches, operator_name, overload
from quanthost.graph.qdq import qdq_parameters
from quanthost.graph.table import Claim, Constraint, Site, SupportTable, constraint
from quanthost.graph.view import GraphView, is_dequantize, is_quantize, tensor_meta
from quanthost.values import Kernel, Role

__all__ = ["FITS", "find_claims", "operators_to_keep"]


def find_claims(table: SupportTable, exported: ExportedProgram) -> list[Claim]:
    """Claims on a whole edge graph: integer kernels first, then float kernels for the rest."""
    view = GraphView(exported.graph_module, exported)
    table = SupportTable(row for row in table if row.delegated)
    claimed: set[fx.Node] = set()
    claims: list[Claim] = []
    for kernel, fits in FITS.items():
        matches = match_table(table, view, kernel, is_open=lambda node: node not in claimed, accept=fits)
        for site in matches.sites:
            nodes = tuple(dict.fromkeys((*site.nodes, *_surroundings(site))))
            if not claimed.isdisjoint(nodes):
                continue
            claimed.update(nodes)
            claims.append(Claim(nodes=nodes, site=site))
    return claims


def operators_to_keep(table: SupportTable, exported: ExportedProgram) -> list[OpOverload]:
    """Operators of the program that a row takes undecomposed, at every place where they occur.

    An operator that the table takes only at some places is decomposed everywhere, since ExecuTorch
    refuses a program with a kept operator that no delegate took.
    """
    names = tuple({name for row in table for name in row.keeps})
    calls: list[tuple[OpOverload, fx.Node]] = []
    for node in exported.graph.nodes:
        op = overload(node) if node.op == "call_function" else None
        if op is not None and any(name_matches(name, operator_name(node)) for name in names):
            calls.append((op, node))
    if not calls:
        return []
    claimed = {node for claim in find_claims(table, exported) for node in claim.site.nodes}
    everywhere: dict[OpOverload, bool] = {}
    for op, node in calls:
        everywhere[op] = everywhere.get(op, True) and node in claimed
    return [op for op, is_claimed in everywhere.items() if is_claimed]


def _activations(site: Site) -> list[fx.Node]:
    return [
        node
        for capture in site.captures
        if site.row.role(capture) is Role.ACTIVATION
        for node in site.tensors(capture)
    ]


def _weights(site: Site) -> list[fx.Node]:
    roles = (Role.WEIGHT, Role.BIAS)
    return [n for c in site.captures if site.row.role(c) in roles for n in site.tensors(c)]


def _is_dynamic(node: fx.Node) -> bool:
    parameters = qdq_parameters(node)
    return parameters is not None and parameters.is_dynamic


@constraint("a static kernel's quantize and dequantize around it")
def _fits_static(site: Site) -> str | None:
    for node in _activations(site):
        if not is_dequantize(node) or _is_dynamic(node):
            return f"{node.name} is not quantized with a static range"
        if not set(node.users) <= set(site.nodes):
            return f"{node.name} has another user beside the integer kernel"
    if any(site.row.role(c) is Role.WEIGHT and not all(map(is_dequantize, site.tensors(c)))
           for c in site.captures):  # fmt: skip
        return "the weight is not quantized"
    users = list(site.output.users)
    if len(users) != 1 or not is_quantize(users[0]):
        return "the result is not quantized"
    return _unequal_parameters(site, users[0])


def _unequal_parameters(site: Site, quantize: fx.Node) -> str | None:
    """The reason where tensors that the row lets share parameters have different ones."""
    nodes = [node for name in site.row.shares if name != "output" for node in site.tensors(name)]
    if "output" in site.row.shares:
        nodes.append(quantize)
    different = len({qdq_parameters(node) for node in nodes}) > 1
    return "its tensors have different quantization parameters" if different else None


@constraint("a dynamic kernel's quantize and dequantize before it")
def _fits_dynamic(site: Site) -> str | None:
    for node in _activations(site):
        if not is_dequantize(node) or not _is_dynamic(node):
            return f"{node.name} is not quantized at run time"
    return _quantized_weights(site)


@constraint("a dequantize before its weight alone")
def _fits_weight_only(site: Site) -> str | None:
    if any(is_dequantize(node) for node in _activations(site)):
        return "an activation is quantized"
    return _quantized_weights(site)


def _quantized_weights(site: Site) -> str | None:
    weights = [n for c in site.captures if site.row.role(c) is Role.WEIGHT for n in site.tensors(c)]
    if weights and all(map(is_dequantize, weights)):
        return None
    return "the weight is not quantized"


@constraint("float operands")
def _fits_float(site: Site) -> str | None:
    for node in _weights(site):
        if is_dequantize(node):
            return f"{node.name} is quantized, and no integer kernel fits"
    for node in _activations(site):
        meta = tensor_meta(node)
        if meta is not None and not is_dequantize(site.output) and not meta.is_floating_point():
            return f"{node.name} is {meta.dtype}, not float"
    return None


FITS: dict[Kernel, Constraint] = {
    Kernel.STATIC: _fits_static,
    Kernel.DYNAMIC: _fits_dynamic,
    Kernel.WEIGHT_ONLY: _fits_weight_only,
    Kernel.FLOAT: _fits_float,
}
"""What must surround a site for each kernel, in the order in which kernels claim."""


def _surroundings(site: Site) -> Iterable[fx.Node]:
    """The q/dq nodes that belong to an integer kernel, and the nodes that compute a dynamic range."""
    if site.kernel is Kernel.FLOAT:
        return
    weights = set(_weights(site))
    for node in (*_activations(site), *weights):
        if not is_dequantize(node):
            continue
        yield node
        quantize = node.args[0]
        if node not in weights and site.kernel is Kernel.DYNAMIC and isinstance(quantize, fx.Node):
            yield quantize
            parameters = qdq_parameters(quantize)
            for parameter in () if parameters is None else (parameters.scale, parameters.zero_point):
                if isinstance(parameter, fx.Node):
                    yield parameter
                    yield from (p for p in parameter.all_input_nodes if p.op == "call_function")
    if site.kernel is Kernel.STATIC:
        yield next(iter(site.output.users))
