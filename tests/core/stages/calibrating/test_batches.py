"""A batch of calibration data: as arguments, as flat inputs, and its digest."""

from __future__ import annotations

import math

import pytest
import torch
from sample_graphs import ROW, program_of

from quanthost.errors import CalibrationError, InputError
from quanthost.graph.signature import Signature
from quanthost.stages.calibrating.batches import arguments, digest_of_batch, flat_batch, own_memory


def _signature() -> Signature:
    return Signature.of(program_of(lambda x: x + 1, ROW))


def test_nothing_else_is_a_batch() -> None:
    """A number is refused; the error says what a batch can be."""
    with pytest.raises(CalibrationError, match="batch 3 of type int") as caught:
        arguments(3, _signature(), what="batch 3")
    assert caught.value.needed.startswith("a tensor, a tuple or list")


def test_a_tensor_is_its_only_argument() -> None:
    """A tuple holds the arguments in order."""
    assert flat_batch(ROW, _signature(), 1) == flat_batch((ROW,), _signature(), 1) == [ROW]


@pytest.mark.parametrize(("value", "kind"), [(math.nan, "NaN"), (math.inf, "Inf")])
def test_numbers_must_be_finite(value: float, kind: str) -> None:
    """The tensor and the batch are named."""
    wrong = ROW.clone()
    wrong[0, 0] = value
    with pytest.raises(CalibrationError, match=f"{kind} in the tensor .* of batch 7"):
        flat_batch(wrong, _signature(), 7)


def test_a_wrong_shape_names_the_batch() -> None:
    """What came beside the input may be a label."""
    with pytest.raises(InputError, match="batch 2: ") as caught:
        flat_batch((ROW, torch.zeros(1)), _signature(), 2)
    assert "labels" in caught.value.remedy


def test_digests() -> None:
    """They follow values, dtype and shape, not memory; a copy has its own."""
    (copied,) = own_memory([ROW])

    assert copied is not ROW
    assert digest_of_batch([copied, 3]) == digest_of_batch([ROW])
    assert digest_of_batch([ROW.t().contiguous().t()]) == digest_of_batch([ROW])
    assert len({digest_of_batch([x]) for x in (ROW, ROW + 1, ROW.reshape(-1), ROW.double())}) == 4
