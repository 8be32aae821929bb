"""Nested results get one name for each leaf."""

from __future__ import annotations

import torch

from quanthost.report.named_tensors import named_leaves, named_tensors


def test_names_are_paths() -> None:
    """A single tensor has the plain name; indices and keys are written as in Python."""
    x = torch.zeros(1)
    assert [name for name, _ in named_leaves(x)] == ["output"]
    nested = (x, {"a": [x, None], "b": 3})
    assert [name for name, _ in named_leaves(nested)] == [
        "output[0]", "output[1]['a'][0]", "output[1]['a'][1]", "output[1]['b']",
    ]  # fmt: skip


def test_only_tensors_are_tensors() -> None:
    """Numbers and ``None`` are omitted, and tensors are not copied."""
    x = torch.zeros(1)
    tensors = named_tensors((None, x, 3))
    assert list(tensors) == ["output[1]"]
    assert tensors["output[1]"] is x
