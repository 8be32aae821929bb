"""The record of a program: JSON and back, and the share that is delegated."""

from __future__ import annotations

import attrs

from quanthost.values import PieceRecord, ProgramRecord, from_json, to_json

RECORD = ProgramRecord(
    program_digest="p", backends=("npu",), recipe="int8_static", representation="qdq", plugins=(),
    versions=(("torch", "2"),), overrides=(), options=(("keep", True),), qat=False, model="Net",
    model_digest="m", data_digest="d", signature="{}", outputs=(), quantized_inputs=(), quantized_outputs=(),
    pieces=(PieceRecord(delegate="Npu", operators=3, results=1),), outside=("aten.tanh.default",),
    runtime_modules=("kernels",), decisions=(),
)  # fmt: skip


def test_json_and_back() -> None:
    """Equal, with types: a tuple stays one, and ``True`` is not 1."""
    again = from_json(ProgramRecord, to_json(RECORD))

    assert again == RECORD
    assert again.options == (("keep", True),)
    assert again.options[0][1] is True


def test_the_share_that_is_delegated() -> None:
    """Operators inside over all operators; 0 of an empty program."""
    assert RECORD.delegated_share == 0.75
    assert attrs.evolve(RECORD, pieces=(), outside=()).delegated_share == 0.0
