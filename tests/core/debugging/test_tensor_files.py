"""Tensors survive files; files that are not what they should be are refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from quanthost.debugging.tensor_files import read_tensors, write_npz
from quanthost.errors import InputError

_NAMES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32",
    torch.int64: "I64", torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32",
    torch.float64: "F64",
}  # fmt: skip


def _safetensors(path: Path, tensors: dict[str, torch.Tensor], **changes: object) -> Path:
    """A file as the format's specification describes it, written here independently."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in tensors.items():
        raw = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(raw)], **changes,
        }  # fmt: skip
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


@pytest.mark.parametrize("dtype", list(_NAMES), ids=str)
def test_safetensors_of_each_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    """Several tensors, a scalar and an empty one, bit for bit and in the file's order."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randint(0, 2, (3, 5), generator=generator).to(dtype)
    tensors = {"b": made, "a": made[0, 0], "none": made[:0]}
    found = read_tensors(_safetensors(tmp_path / "a.safetensors", tensors))
    assert list(found) == ["b", "a", "none"]
    for name, tensor in tensors.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor)


def test_npz_round_trip(tmp_path: Path) -> None:
    """Names, dtypes and values stay, a scalar too; bfloat16 becomes float32 of the same values."""
    tensors = {
        "output['a']": torch.arange(6).reshape(2, 3), "b": torch.tensor(2.5),
        "c": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    }  # fmt: skip
    write_npz(tmp_path / "a.npz", tensors)
    found = read_tensors(tmp_path / "a.npz")
    assert list(found) == list(tensors)
    assert torch.equal(found["output['a']"], tensors["output['a']"])
    assert torch.equal(found["b"], tensors["b"])
    assert torch.equal(found["c"], torch.tensor([1.5, -2.0]))


def test_writing_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays when writing fails, and no temporary file does."""
    target = tmp_path / "a.npz"
    target.write_bytes(b"before")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        write_npz(target, {"a": torch.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert target.read_bytes() == b"before"


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    """Reading data must not run code."""
    np.savez(tmp_path / "a.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(
        InputError, match=r"a\.npz, which cannot be read: .*\n  needed: a whole \.npz file of pl"
    ):
        read_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05",
        struct.pack("<Q", 1 << 40),
        struct.pack("<Q", 3) + b"[1]",
        struct.pack("<Q", 2) + b"{}x{"[:1],
    ],
    ids=["empty", "short", "huge header", "no mapping", "cut header"],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file is named, whatever is wrong with it."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.safetensors, which cannot be read"):
        read_tensors(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "F8"},
        {"shape": [9]},
        {"data_offsets": [0, 1 << 20]},
        {"data_offsets": [-8, 0]},
        {"shape": [-2, -1]},
    ],
)
def test_lies_of_a_header_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    """Offsets and shapes are checked against each other and against the file."""
    path = _safetensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, **changes)
    with pytest.raises(InputError, match="cannot be read"):
        read_tensors(path)


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    """The kinds that can be read are named."""
    (tmp_path / "a.csv").write_text("1,2\n")
    with pytest.raises(InputError, match=r"a\.csv\n  needed: one that ends in \.npz or \.safetensors"):
        read_tensors(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"no file .*b\.npz\n"):
        read_tensors(tmp_path / "b.npz")
