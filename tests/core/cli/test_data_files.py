"""Files become batches that fit the example inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quanthost.cli.data_files import Layout, assign, batches_from
from quanthost.cli.usage import UsageError
from quanthost.errors import CalibrationError, InputError


class _Net(nn.Module):
    def forward(
        self, image: Tensor, mask: Tensor, scale: float = 1.0, *, late: Tensor | None = None
    ) -> Tensor:
        return image * mask * scale


_IMAGE, _MASK = torch.zeros(2, 3), torch.zeros(4)


def _store(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()})
    return path


def test_names_are_those_of_forward() -> None:
    """Positional inputs in the order of the parameters; inputs by name keep their names."""
    layout = Layout.of(_Net(), (_IMAGE, _MASK))
    assert (list(layout.examples), layout.positional) == (["image", "mask"], True)
    by_name = Layout.of(_Net(), {"mask": _MASK, "image": _IMAGE})
    assert (list(by_name.examples), by_name.positional) == (["mask", "image"], False)
    assert list(Layout.of(_Net(), _IMAGE).examples) == ["image"]


def test_unnamed_inputs_are_numbered() -> None:
    """Beyond the parameters, and where the model shows none."""

    class Many(nn.Module):
        def forward(self, first: Tensor, *rest: Tensor) -> Tensor:
            return first

    assert list(Layout.of(Many(), (_MASK, _MASK, _MASK)).examples) == ["first", "input_1", "input_2"]
    assert list(Layout.of(object(), (_MASK,)).examples) == ["input_0"]


def test_rows_are_cut_by_the_length_of_the_example(tmp_path: Path) -> None:
    """Six rows for an example of two are three batches, in order."""
    rows = np.arange(18).reshape(6, 3)
    found = list(batches_from(_store(tmp_path / "a.npz", image=rows), Layout.of(_Net(), _IMAGE)))
    assert [batch[0].tolist() for batch in found] == [rows[i : i + 2].tolist() for i in (0, 2, 4)]


def test_an_axis_more_holds_batches(tmp_path: Path) -> None:
    """Mixed with rows of another input, as many of each."""
    images, masks = np.arange(12).reshape(2, 2, 3), np.arange(8)
    layout = Layout.of(_Net(), (_IMAGE, _MASK))
    found = list(batches_from(_store(tmp_path / "a.npz", image=images, mask=masks), layout))
    assert [tuple(t.tolist() for t in batch) for batch in found] == [
        (images[0].tolist(), [0, 1, 2, 3]), (images[1].tolist(), [4, 5, 6, 7]),
    ]  # fmt: skip


def test_numbers_stay_what_they_are_in_the_example(tmp_path: Path) -> None:
    """An argument that tracing fixes is passed with each batch, in its place."""
    layout = Layout.of(_Net(), (_IMAGE, _MASK, 0.5))
    (batch,) = batches_from(_store(tmp_path / "a.npz", image=_IMAGE, mask=_MASK), layout)
    assert batch[2] == 0.5


def test_batches_by_name(tmp_path: Path) -> None:
    """Where the inputs are passed by name, so are the batches."""
    layout = Layout.of(_Net(), {"image": _IMAGE, "mask": _MASK})
    (batch,) = batches_from(_store(tmp_path / "a.npz", image=_IMAGE, mask=_MASK), layout)
    assert isinstance(batch, dict)
    assert sorted(batch) == ["image", "mask"]


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    """One file after the other; other kinds of files are passed over."""
    for number in (2, 0, 1):
        _store(tmp_path / f"{number}.npz", image=np.full((2, 3), number))
    (tmp_path / "notes.txt").write_text("hello")
    found = list(batches_from(tmp_path, Layout.of(_Net(), _IMAGE)))
    assert [batch[0][0, 0].item() for batch in found] == [0, 1, 2]


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    """At once, not when the first batch is taken."""
    with pytest.raises(CalibrationError, match=r"without data\n  needed: files that end in \.npz or \.safe"):
        batches_from(tmp_path, Layout.of(_Net(), _IMAGE))


@pytest.mark.parametrize(
    ("shape", "needed"),
    [((5, 3), r"\[n × 2, …\]"), ((2,), r"\[n × 2, …\]"), ((1, 1, 2, 3), r"\[n × 2, …\]")],
    ids=["remainder", "axis less", "two axes more"],
)
def test_shapes_that_cannot_be_cut_are_refused(tmp_path: Path, shape: tuple[int, ...], needed: str) -> None:
    """The message has the shape and what would fit."""
    path = _store(tmp_path / "a.npz", image=np.zeros(shape))
    with pytest.raises(InputError, match=rf"image of shape .*\n  needed: batches of \[2, 3\] .*{needed}"):
        batches_from(path, Layout.of(_Net(), _IMAGE))


def test_scalars_need_an_axis(tmp_path: Path) -> None:
    """A scalar input has a batch at each element."""
    layout = Layout.of(_Net(), torch.tensor(1.0))
    found = list(batches_from(_store(tmp_path / "a.npz", image=[1, 2, 3]), layout))
    assert [batch[0].item() for batch in found] == [1, 2, 3]
    with pytest.raises(InputError, match="one axis: a scalar for each batch"):
        batches_from(_store(tmp_path / "b.npz", image=1), layout)


def test_different_numbers_of_batches_are_refused(tmp_path: Path) -> None:
    """With the number of each."""
    path = _store(tmp_path / "a.npz", image=np.zeros((6, 3)), mask=np.zeros(4))
    with pytest.raises(InputError, match="different numbers of batches: 3 of image, 1 of mask"):
        batches_from(path, Layout.of(_Net(), (_IMAGE, _MASK)))


@pytest.mark.parametrize("inputs", [([_IMAGE, _IMAGE],), (3,), ()], ids=["nested", "no tensor", "none"])
def test_inputs_that_no_file_can_give_are_refused(tmp_path: Path, inputs: Any) -> None:
    """The other way to pass data is named."""
    path = _store(tmp_path / "a.npz", image=_IMAGE)
    with pytest.raises(UsageError, match=r"(.*\n)*  to do:  pass calibration data as MODULE:CALLABLE"):
        batches_from(path, Layout.of(_Net(), inputs))


def test_tensors_are_assigned_by_name_position_or_alone() -> None:
    """Three ways to name tensors, in this order."""
    a, b = torch.zeros(1), torch.ones(1)
    by_name = assign({"y": b, "x": a}, ["x", "y"], where="a.npz")
    by_position = assign({"arr_1": b, "arr_0": a}, ["x", "y"], where="a.npz")
    for found in (by_name, by_position):
        assert list(found) == ["x", "y"]
        assert found["x"] is a
    assert assign({"whatever": a}, ["x"], where="a.npz")["x"] is a


def test_other_names_are_refused() -> None:
    """What is there and what is needed are listed."""
    with pytest.raises(
        InputError, match=r"tensors named x, z\n  needed: one for each input: x, y\n  where:  a\.npz"
    ):
        assign({"x": _MASK, "z": _MASK}, ["x", "y"], where="a.npz")
    with pytest.raises(InputError, match="tensors named nothing"):
        assign({}, ["x"], where="a.npz")
