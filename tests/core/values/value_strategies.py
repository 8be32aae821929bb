"""Hypothesis strategies for every value class."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from quanthost.values import (
    PROFILES,
    AnyQSpec,
    ArithmeticProfile,
    BackendInfo,
    Cause,
    ConversionCost,
    CostTable,
    Decision,
    DerivedQSpec,
    DType,
    Estimator,
    EstimatorTrial,
    Finding,
    FindingKind,
    FixedQSpec,
    Gain,
    Granularity,
    Kernel,
    Latency,
    LeafSource,
    Manifest,
    Match,
    OutputLeaf,
    Override,
    PieceRecord,
    Placement,
    PluginRecord,
    ProgramRecord,
    QSpec,
    QSpecChoice,
    RangeEstimator,
    Recipe,
    Refinement,
    Refusal,
    Request,
    Role,
    ScaleFormat,
    SharedQSpec,
    SiteCost,
    Sizes,
    Symmetry,
    TensorQParams,
    Timing,
    Toolchain,
    ToolchainRecord,
    Verdict,
)

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
texts = st.text(max_size=12)
dtypes = st.sampled_from(DType)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def ranges(draw: st.DrawFn, dtype: DType) -> dict[str, Any]:
    """Nothing, or a ``quant_min`` below a ``quant_max``, both inside the dtype."""
    if draw(st.booleans()):
        return {}
    low = draw(st.integers(dtype.minimum, dtype.maximum - 1))
    return {"quant_min": low, "quant_max": draw(st.integers(low + 1, dtype.maximum))}


estimators = st.one_of(
    st.sampled_from(sorted(set(Estimator) - {Estimator.PERCENTILE, Estimator.MOVING_AVERAGE}, key=str)).map(
        lambda kind: RangeEstimator(kind=kind)
    ),
    (st.floats(50, 100) | st.integers(50, 100)).map(
        lambda share: RangeEstimator(kind=Estimator.PERCENTILE, percentile=share)
    ),
    (st.floats(0, 1) | st.integers(0, 1)).map(
        lambda weight: RangeEstimator(kind=Estimator.MOVING_AVERAGE, momentum=weight)
    ),
)


@st.composite
def own_qspecs(draw: st.DrawFn) -> QSpec:
    dtype = draw(dtypes)
    granularity = draw(st.sampled_from(Granularity))
    channels = granularity in (Granularity.PER_CHANNEL, Granularity.PER_GROUP)
    timing = draw(st.sampled_from(Timing)) if granularity is Granularity.PER_TENSOR else Timing.STATIC
    return QSpec(
        dtype=dtype,
        granularity=granularity,
        axis=draw(st.integers(0, 4)) if channels else None,
        group_size=draw(st.integers(1, 256)) if granularity is Granularity.PER_GROUP else None,
        symmetry=draw(st.sampled_from(Symmetry)),
        timing=Timing.DYNAMIC if granularity is Granularity.PER_TOKEN else timing,
        estimator=draw(estimators),
        scale_format=draw(st.sampled_from(ScaleFormat)),
        **draw(ranges(dtype)),
    )


@st.composite
def fixed_qspecs(draw: st.DrawFn) -> FixedQSpec:
    dtype = draw(dtypes)
    limits = draw(ranges(dtype))
    low, high = limits.get("quant_min", dtype.minimum), limits.get("quant_max", dtype.maximum)
    scale = draw(st.floats(0, exclude_min=True, allow_infinity=False) | st.integers(1, 8))
    return FixedQSpec(dtype=dtype, scale=scale, zero_point=draw(st.integers(low, high)), **limits)


@st.composite
def derived_qspecs(draw: st.DrawFn) -> DerivedQSpec:
    dtype = draw(dtypes)
    sources = draw(st.lists(names, min_size=1, max_size=3))
    return DerivedQSpec(sources=sources, dtype=dtype, **draw(ranges(dtype)))


shared_qspecs = names.map(lambda name: SharedQSpec(source=name))
qspecs: st.SearchStrategy[AnyQSpec] = st.one_of(own_qspecs(), fixed_qspecs(), derived_qspecs(), shared_qspecs)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    kernel = draw(st.sampled_from(Kernel))
    roles = draw(st.lists(st.sampled_from(["activation", "weight", "bias"]), min_size=1, unique=True))
    given_qspecs = {role: draw(qspecs) for role in roles} if kernel is not Kernel.FLOAT else {}
    return Recipe(name=draw(names), kernel=kernel, summary=draw(texts), **given_qspecs)


@st.composite
def overrides(draw: st.DrawFn) -> Override:
    fields = ["module_name", "module_type", "operator", "node"]
    selectors: dict[str, Any] = {
        field: draw(texts) for field in draw(st.lists(st.sampled_from(fields), min_size=1))
    }
    roles = draw(st.lists(st.sampled_from(["activation", "weight", "bias"]), min_size=1, unique=True))
    action: dict[str, Any] = draw(
        st.sampled_from(
            [{"keep_float": True}, {"recipe": draw(names)}, {role: draw(qspecs) for role in roles}]
        )
    )
    return Override(**selectors, **action)


options = st.dictionaries(
    texts, st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    max_size=4,
)  # fmt: skip
requests = st.builds(
    Request,
    backends=st.lists(names, min_size=1, max_size=3, unique=True),
    recipe=names,
    overrides=st.lists(overrides(), max_size=2),
    qat=st.booleans(),
    placement=st.sampled_from(Placement),
    options=options,
)
matches = st.builds(
    Match,
    backend=names,
    row=names,
    kernel=st.sampled_from(Kernel),
    nodes=st.lists(texts, min_size=1, max_size=3),
    captures=st.dictionaries(names, texts, max_size=3),
    roles=st.dictionaries(names, st.sampled_from(Role), max_size=3),
    shares=st.lists(names, max_size=3),
    gain=st.sampled_from(Gain),
)
decisions = st.builds(
    Decision,
    node=texts,
    operator=texts,
    verdict=st.sampled_from(Verdict),
    cause=st.sampled_from(Cause),
    reason=texts,
    module=maybe(texts),
    source=maybe(texts),
    backend=maybe(names),
    recipe=maybe(names),
    row=maybe(names),
    delegated=maybe(st.booleans()),
    partition=maybe(texts),
    placement=maybe(texts),
    form=maybe(texts),
)
profiles = st.builds(
    ArithmeticProfile,
    name=names,
    rescaling=st.sampled_from([p.rescaling for p in PROFILES.values()]),
    accumulator_bits=st.integers(8, 64),
    source=texts,
)
manifests = st.builds(
    Manifest,
    name=names,
    summary=texts,
    api=texts,
    recipes=st.lists(names, max_size=3),
    requires=st.lists(texts, max_size=3),
    runtime=texts,
)
backend_infos = st.builds(
    BackendInfo,
    name=names,
    recipes=st.lists(recipes(), min_size=1, max_size=2, unique_by=lambda recipe: recipe.name),
    qat=st.booleans(),
    runtime=texts,
    options=st.lists(names, max_size=3),
    arithmetic=maybe(profiles),
)
choices = st.builds(QSpecChoice, qspecs=st.dictionaries(names, qspecs, max_size=3))
refusals = st.builds(Refusal, reason=texts, cause=st.sampled_from(Cause))
finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(st.booleans(), st.integers(), finite, texts)
counts = st.integers(0, 1 << 40)
output_leaves = st.builds(
    OutputLeaf, source=st.sampled_from(LeafSource), index=st.integers(-1, 99), value=maybe(scalars)
)
trials = st.builds(EstimatorTrial, name=texts, sqnr_db=finite)
refinements = st.builds(
    Refinement,
    trials=st.lists(trials, max_size=3).map(tuple),
    choice=texts,
    bias_corrected=st.booleans(),
)
findings = st.builds(
    Finding,
    kind=st.sampled_from(FindingKind),
    seen=texts,
    remedy=texts,
    node=maybe(names),
    where=maybe(texts),
)
plugin_records = st.builds(PluginRecord, name=names, distribution=texts, version=texts)
toolchain_records = st.builds(
    ToolchainRecord, way=st.sampled_from(Toolchain), notes=st.lists(texts, max_size=2).map(tuple)
)
piece_records = st.builds(PieceRecord, delegate=texts, operators=counts)
tensor_qparams = st.builds(
    TensorQParams,
    name=texts,
    scale=finite,
    zero_point=st.integers(),
    quant_min=st.integers(),
    quant_max=st.integers(),
)


def several(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=2).map(tuple)


shapes = several(st.integers(0, 9))
sizes = st.builds(Sizes, inputs=several(shapes), weight=shapes, output=shapes, arguments=texts)
site_costs = st.builds(
    SiteCost, row=texts, kernel=st.sampled_from(Kernel), sizes=sizes, seconds=finite
)  # fmt: skip
conversion_costs = st.builds(ConversionCost, elements=st.integers(0, 9), seconds=finite)
cost_tables = st.builds(
    CostTable,
    backend=names,
    machine=texts,
    versions=several(st.tuples(texts, texts)),
    sites=several(site_costs),
    conversions=several(conversion_costs),
    skipped=several(st.tuples(texts, texts)),
)
latencies = st.builds(
    Latency,
    expected=finite,
    all_integer=finite,
    all_float=finite,
    table_machine=texts,
    unpriced=several(texts),
    measured=maybe(finite),
    machine=texts,
    note=texts,
)

program_records = st.builds(
    ProgramRecord,
    program_digest=texts,
    backends=several(names),
    recipe=names,
    representation=texts,
    plugins=several(plugin_records),
    findings=several(findings),
    versions=several(st.tuples(texts, texts)),
    overrides=several(overrides()),
    options=several(st.tuples(texts, scalars)),
    qat=st.booleans(),
    model=texts,
    model_digest=texts,
    data_digest=texts,
    signature=texts,
    outputs=several(output_leaves),
    quantized_inputs=several(tensor_qparams),
    quantized_outputs=several(tensor_qparams),
    pieces=several(piece_records),
    outside=several(texts),
    runtime_modules=several(texts),
    decisions=several(decisions),
    refinement=maybe(refinements),
    latency=maybe(latencies),
    toolchain=maybe(toolchain_records),
)

ALL: dict[type, st.SearchStrategy[Any]] = {
    RangeEstimator: estimators,
    QSpec: own_qspecs(),
    FixedQSpec: fixed_qspecs(),
    DerivedQSpec: derived_qspecs(),
    SharedQSpec: shared_qspecs,
    Recipe: recipes(),
    Override: overrides(),
    Request: requests,
    Match: matches,
    QSpecChoice: choices,
    Refusal: refusals,
    Decision: decisions,
    ArithmeticProfile: profiles,
    Manifest: manifests,
    BackendInfo: backend_infos,
    OutputLeaf: output_leaves,
    EstimatorTrial: trials,
    Finding: findings,
    Refinement: refinements,
    PluginRecord: plugin_records,
    PieceRecord: piece_records,
    ToolchainRecord: toolchain_records,
    TensorQParams: tensor_qparams,
    ProgramRecord: program_records,
    Sizes: sizes,
    SiteCost: site_costs,
    ConversionCost: conversion_costs,
    CostTable: cost_tables,
    Latency: latencies,
}
