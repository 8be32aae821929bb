"""The text and JSON of a program, with and without its record."""

from __future__ import annotations

import json

from quanthost.report.program_text import method_facts, program_document, record_facts
from quanthost.report.pte_file import MethodFacts, TensorFacts
from quanthost.values import (
    Cause,
    Decision,
    LeafSource,
    OutputLeaf,
    Override,
    PieceRecord,
    PluginRecord,
    ProgramRecord,
    Verdict,
)

_METHOD = MethodFacts(
    name="forward",
    inputs=(TensorFacts(shape=(4, 3), dtype="float32", bounded=True), None),
    outputs=(TensorFacts(shape=(4,), dtype="int64", bounded=False),),
    delegates=("Npu", "Npu", "Dsp"),
    kernels=(("aten.add.out", 2), ("aten.mean.out", 1)),
    memory=2048,
)


def _record() -> ProgramRecord:
    return ProgramRecord(
        program_digest="sha256:" + "1" * 64, backends=("npu", "cpu"), recipe="int8_static",
        representation="qdq",
        plugins=(PluginRecord(name="npu", distribution="quanthost-npu", version="2.0"),),
        versions=(("torch", "2.13.0"),), overrides=(Override(module_name="head", keep_float=True),),
        options=(("cores", 0), ("fast", False)), qat=False, model="zoo.Net",
        model_digest="sha256:" + "2" * 64, data_digest="", signature="{}",
        outputs=(OutputLeaf(source=LeafSource.PROGRAM, index=0),), quantized_inputs=(),
        quantized_outputs=(), pieces=(PieceRecord(delegate="Npu", operators=3),),
        outside=("aten.add.Tensor",), runtime_modules=(),
        decisions=(
            Decision(
                node="relu", operator="aten.relu.default", verdict=Verdict.QUANTIZED, cause=Cause.ROW,
                reason="row relu",
            ),
        ),
    )  # fmt: skip


def test_facts_of_the_file() -> None:
    """Bounded shapes are marked, repeated calls are counted, and a non-tensor is named as such."""
    texts = dict(method_facts([_METHOD], 1536))
    assert texts == {
        "size": "1.5 KiB", "inputs": "float32 up to [4, 3], no tensor", "outputs": "int64 [4]",
        "memory": "2.0 KiB for activations", "delegate calls": "2 × Npu, Dsp",
        "kernel calls": "2 × aten.add.out, aten.mean.out",
    }  # fmt: skip


def test_facts_of_the_record() -> None:
    """An explicit 0 or False is shown, plugins with their distribution if known, digests abbreviated."""
    texts = dict(record_facts(_record()))
    assert texts["backend"] == "npu (quanthost-npu 2.0), cpu"
    assert texts["options"] == "cores=0, fast=False"
    assert texts["override"] == "override(module_name='head', keep_float=True)"
    assert texts["model"] == "zoo.Net, sha256:222222222222"
    assert texts["data"] == "none"
    assert texts["delegated"] == "75.0% of the operators, in 1 piece"


def test_document_is_json_and_whole() -> None:
    """JSON abbreviates nothing, and missing values are null."""
    document = json.loads(json.dumps(program_document("a.pte", 9, [_METHOD], _record()), allow_nan=False))
    assert document["program"]["bytes"] == 9
    assert document["program"]["methods"][0]["inputs"][1] is None
    assert document["record"]["digests"] == {
        "program": "sha256:" + "1" * 64, "model": "sha256:" + "2" * 64, "data": None
    }  # fmt: skip
    assert document["record"]["options"] == {"cores": 0, "fast": False}
    assert document["record"]["nodes"] == {"quantized": 1, "float": 0, "folded": 0}
    assert "decisions" not in document


def test_decisions_are_in_the_document_on_demand() -> None:
    """With every field of the value."""
    document = program_document("a.pte", 9, [_METHOD], _record(), decisions=True)
    assert document["decisions"][0]["node"] == "relu"
    assert document["decisions"][0]["verdict"] == "quantized"


def test_without_a_record_the_file_remains() -> None:
    """Without a record, the record is null, even if decisions are requested."""
    document = program_document("a.pte", 9, [_METHOD], None, decisions=True)
    assert document["record"] is None
    assert "decisions" not in document
