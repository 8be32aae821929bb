"""Owns the cases of the sweep: every operator and module that PyTorch lists, with its own sample inputs."""

from __future__ import annotations

import copy
import enum
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["Place", "Sample", "subjects"]

_DTYPES = (torch.float32, torch.float16, torch.int64, torch.bool)

# they return memory as they find it
_VALUELESS = frozenset(
    {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
    | {"resize_", "resize_as_"}
)

_ORDERING = frozenset({"argsort", "kthvalue", "median", "mode", "msort", "nanmedian", "sort", "topk"})


class Place(enum.Enum):
    """Where the operator stands: alone, or next to a linear layer."""

    ALONE = "alone"
    BEHIND = "behind a linear layer"
    BEFORE = "before a linear layer"


class _Call(nn.Module):
    """An operator of which the tensors are inputs, and everything else is fixed."""

    def __init__(self, operator: Callable[..., Any], arguments: Any) -> None:
        super().__init__()
        leaves, self._spec = pytree.tree_flatten(arguments)
        self._operator = operator
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def forward(self, *tensors: Tensor) -> Any:
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return self._operator(*args, **kwargs)


class _Behind(nn.Module):
    """The first input goes through a linear layer of its last dimension."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.inner = nn.Linear(width, width), inner

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return self.inner(self.layer(x), *others)


class _Before(nn.Module):
    """The first result goes through a linear layer of its last dimension."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner, self.layer = inner, nn.Linear(width, 4)

    def forward(self, *inputs: Tensor) -> Tensor:
        first = pytree.tree_leaves(self.inner(*inputs))[0]
        result: Tensor = self.layer(first)
        return result


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """A model of one operator with inputs; ``name`` is ``"op/nn.functional.pad.circular/float32/0"``."""

    name: str
    model: nn.Module
    inputs: tuple[Tensor, ...]

    @property
    def has_values(self) -> bool:
        """Whether the operator writes what it returns."""
        return self.name.split("/")[1] not in _VALUELESS

    @property
    def has_ties(self) -> bool:
        """Whether the operator orders elements, of which several may be equal."""
        return self.name.split("/")[1] in _ORDERING

    def cloned(self) -> tuple[Tensor, ...]:
        """Inputs that the model may write to."""
        return tuple(map(torch.clone, self.inputs))

    def at(self, place: Place) -> nn.Module | None:
        """The model at a place, ``None`` where no linear layer fits."""
        torch.manual_seed(0)
        if place is Place.ALONE:
            return self.model
        if place is Place.BEHIND:
            return _Behind(self.model, self.inputs[0].shape[-1]) if _takes_layer(self.inputs[0]) else None
        try:
            with torch.no_grad():
                results = pytree.tree_leaves(copy.deepcopy(self.model)(*self.cloned()))
        except Exception:
            return None
        first = results[0] if results else None
        if not isinstance(first, Tensor) or not _takes_layer(first):
            return None
        return _Before(self.model, first.shape[-1])


def _takes_layer(x: Tensor) -> bool:
    plain = x.layout is torch.strided and x.dtype is torch.float32
    return plain and x.dim() > 0 and x.numel() > 0 and not x.is_complex()


def subjects() -> dict[str, Callable[[int], Iterator[Sample]]]:
    """By name, every operator and module; each gives its first samples of each dtype that it has."""
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

    samples: dict[str, Callable[[int], Iterator[Sample]]] = {}
    for info in op_db:
        name = f"op/{info.name}" + (f".{info.variant_test_name}" if info.variant_test_name else "")
        samples[name] = lambda count, info=info, name=name: _operator_samples(info, name, count)
    for info in module_db:
        name = f"module/{info.name}"
        samples[name] = lambda count, info=info, name=name: _module_samples(info, name, count)
    return samples


def _operator_samples(info: Any, name: str, count: int) -> Iterator[Sample]:
    dtypes = info.supported_dtypes("cpu")
    for dtype in _DTYPES:
        if dtype not in dtypes:
            continue
        torch.manual_seed(0)
        drawn = itertools.islice(info.sample_inputs("cpu", dtype, requires_grad=False), 4 * count)
        usable = (s for s in drawn if _plain_inputs((s.input, s.args, s.kwargs)) is not None)
        for number, sample in enumerate(itertools.islice(usable, count)):
            arguments = ((sample.input, *sample.args), dict(sample.kwargs))
            inputs = _plain_inputs(arguments)
            assert inputs is not None
            yield Sample(
                name=f"{name}/{str(dtype).removeprefix('torch.')}/{number}",
                model=_Call(info.op, arguments).eval(), inputs=inputs,
            )  # fmt: skip


def _module_samples(info: Any, name: str, count: int) -> Iterator[Sample]:
    torch.manual_seed(0)
    drawn = info.module_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=False
    )
    number = 0
    for each in drawn:
        if number == count:
            return
        constructor, forward = each.constructor_input, each.forward_input
        if forward is None:
            continue
        inputs = _plain_inputs((forward.args, forward.kwargs))
        if inputs is None:
            continue
        module = info.module_cls(*constructor.args, **constructor.kwargs).eval()
        model = _Call(module, (tuple(forward.args), dict(forward.kwargs)))
        yield Sample(name=f"{name}/float32/{number}", model=model.eval(), inputs=inputs)
        number += 1


def _plain_inputs(arguments: Any) -> tuple[Tensor, ...] | None:
    """The tensors among arguments; ``None`` if there is none, or one is sparse, complex or nested."""
    tensors = [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, Tensor)]
    if not tensors or any(t.layout is not torch.strided or t.is_complex() or t.is_nested for t in tensors):
        return None
    return tuple(t.detach().clone() for t in tensors)
