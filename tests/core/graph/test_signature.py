"""Signatures: names in the caller's terms, checks of every argument, structure of results, JSON."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from quanthost.errors import InputError, ProgramError
from quanthost.graph.signature import ConstantSpec, DynamicDim, Signature, SizeSpec, TensorSpec


def signature_of(model: nn.Module, *args: Any, dynamic_shapes: Any = None, **kwargs: Any) -> Signature:
    """The signature of a model exported with these arguments."""
    with torch.no_grad():
        return Signature.of(torch.export.export(model, args, kwargs, dynamic_shapes=dynamic_shapes))


class Nested(nn.Module):
    """Takes tensors in containers, numbers and keywords."""

    def forward(self, x: Any, pair: Any, count: Any, *rest: Any, mask: Any = None, flag: Any = True) -> Any:
        y = x + pair[0] + pair[1]["bias"] * count
        if flag and mask is not None:
            y = y * mask
        for more in rest:
            y = y + more.sum()
        return y


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)


ARGS = (tensor(2, 3), (tensor(2, 3), {"bias": tensor(3)}), 3, tensor(4))
KWARGS = {"mask": tensor(2, 1, dtype=torch.int64), "flag": True}


@pytest.fixture(scope="module")
def nested() -> Signature:
    return signature_of(Nested(), *ARGS, **KWARGS)


def test_inputs_have_the_callers_names(nested: Signature) -> None:
    """Names are those of forward's parameters, with the path inside of containers."""
    assert nested.names() == ("x", "pair[0]", "pair[1]['bias']", "count", "rest_0", "mask", "flag")
    assert nested.call_form() == "(x, pair, count, rest_0, mask=..., flag=...)"


def test_inputs_have_shape_and_dtype_or_the_fixed_value(nested: Signature) -> None:
    """Tensors are described, and what tracing fixed is kept as a value."""
    assert nested.inputs[0] == TensorSpec(name="x", dims=(2, 3), dtype=torch.float32)
    assert nested.inputs[3] == ConstantSpec(name="count", value=3)
    assert str(nested.inputs[5]) == "int64[2, 1]"


def test_flatten_gives_all_leaves_in_the_order_of_the_program(nested: Signature) -> None:
    """Constants are among the leaves, since the program has an input for each."""
    flat = nested.flatten(ARGS, KWARGS)
    expected = pytree.tree_leaves((ARGS, KWARGS))
    assert len(flat) == len(expected)
    assert all(given is wanted for given, wanted in zip(flat, expected))


def test_flatten_does_not_depend_on_the_order_of_names() -> None:
    """Keyword arguments and keys of mappings come in the captured order."""

    class Model(nn.Module):
        def forward(self, *, d: Any, e: Any) -> Any:
            return d["p"] - d["q"] + e

    p, q, e = tensor(1), tensor(2), tensor(2)
    signature = signature_of(Model(), d={"p": p, "q": q}, e=e)
    flat = signature.flatten((), {"e": e, "d": {"q": q, "p": p}})
    assert [leaf is wanted for leaf, wanted in zip(flat, (p, q, e))] == [True] * 3


def replaced(position: int, value: Any) -> tuple[Any, ...]:
    return (*ARGS[:position], value, *ARGS[position + 1 :])


X, A_TENSOR, THREE = r"^float32\[2, 3\]$", r"a tensor float32\[2, 3\]", r"^3, which tracing"
REFUSED = {
    "too few": (ARGS[:3], KWARGS, r"3 positional arguments and flag, mask by name", r"\(x, pair, count"),
    "too many": ((*ARGS, 1), KWARGS, r"5 positional arguments", r"\(x, pair"),
    "keyword missing": (ARGS, {"flag": True}, r"4 positional arguments and flag", r"mask=\.\.\."),
    "keyword unknown": (ARGS, {**KWARGS, "mist": 1}, r"flag, mask, mist by name", r"mask=\.\.\."),
    "other container": (
        replaced(1, [tensor(2, 3), {"bias": tensor(3)}]), KWARGS,
        r"argument 1 \('pair'\) is \[\*, \{'bias': \*\}\]", r"\(\*, \{'bias': \*\}\)",
    ),
    "other key": (
        replaced(1, (tensor(2, 3), {"offset": tensor(3)})), KWARGS,
        r"argument 1 \('pair'\) is \(\*, \{'offset': \*\}\)", r"'bias'",
    ),
    "container for tensor": (replaced(0, [1.0]), KWARGS, r"argument 0 \('x'\) is of type list", A_TENSOR),
    "number for tensor": (replaced(0, 2), KWARGS, r"argument 0 \('x'\) is 2", A_TENSOR),
    "None for tensor": (ARGS, {**KWARGS, "mask": None}, r"argument 'mask' is None", r"a tensor int64"),
    "dtype": (replaced(0, tensor(2, 3).double()), KWARGS, r"\('x'\) is float64\[2, 3\]", X),
    "size": (replaced(0, tensor(2, 4)), KWARGS, r"\('x'\) is float32\[2, 4\]", X),
    "rank": (replaced(0, tensor(1, 2, 3)), KWARGS, r"\('x'\) is float32\[1, 2, 3\]", X),
    "inside": (
        replaced(1, (tensor(2, 3), {"bias": tensor(4)})), KWARGS,
        r"argument 1 \('pair'\)\[1\]\['bias'\] is float32\[4\]", r"^float32\[3\]$",
    ),
    "variadic": (replaced(3, tensor(5)), KWARGS, r"3 \('rest_0'\) is float32\[5\]", r"^float32\[4\]$"),
    "constant": (replaced(2, 4), KWARGS, r"argument 2 \('count'\) is 4", THREE),
    "constant of other type": (replaced(2, 3.0), KWARGS, r"\('count'\) is 3\.0", THREE),
    "truth value for number": (ARGS, {**KWARGS, "flag": 1}, r"argument 'flag' is 1", r"^True, which tracing"),
    "tensor for constant": (replaced(2, tensor()), KWARGS, r"\('count'\) is float32\[\]", THREE),
}  # fmt: skip


@pytest.mark.parametrize(("args", "kwargs", "seen", "needed"), REFUSED.values(), ids=REFUSED.keys())
def test_flatten_refuses(
    nested: Signature, args: tuple[Any, ...], kwargs: dict[str, Any], seen: str, needed: str
) -> None:
    """Whatever differs is named, with what was given and what was captured."""
    with pytest.raises(InputError, match=seen) as caught:
        nested.flatten(args, kwargs)
    assert re.search(needed, caught.value.needed)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("args", "kwargs", "where"),
    [
        (ARGS[:2], KWARGS, "argument 2 ('count') is missing"),
        ((*ARGS, 1), KWARGS, "argument 4 is one too many"),
        (ARGS, {"mask": KWARGS["mask"]}, "argument 'flag' is missing"),
        (ARGS, {**KWARGS, "mist": 1}, "argument 'mist' was not captured"),
    ],
    ids=["positional", "extra", "keyword", "unknown"],
)
def test_flatten_says_which_argument_is_one_too_few_or_many(
    nested: Signature, args: tuple[Any, ...], kwargs: dict[str, Any], where: str
) -> None:
    """The first argument that makes the difference is named."""
    with pytest.raises(InputError) as caught:
        nested.flatten(args, kwargs)
    assert caught.value.where == where


def test_a_constant_that_is_not_a_number_equals_itself() -> None:
    """NaN, which == finds unequal, is still the captured value."""

    class Model(nn.Module):
        def forward(self, x: Any, fill: Any) -> Any:
            return torch.full_like(x, fill)

    signature = signature_of(Model(), tensor(2), math.nan)
    assert len(signature.flatten((tensor(2), math.nan))) == 2
    with pytest.raises(InputError, match=r"\('fill'\) is 0\.0"):
        signature.flatten((tensor(2), 0.0))


class Sum(nn.Module):
    def forward(self, x: Any, y: Any) -> Any:
        return x.sum(0) + y.sum(0)


BATCH = Dim("batch", min=2, max=8)


@pytest.fixture(scope="module")
def shared() -> Signature:
    """Two inputs with one dynamic batch of 2 to 8."""
    return signature_of(Sum(), tensor(4, 3), tensor(4, 3), dynamic_shapes=({0: BATCH}, {0: BATCH}))


class TestDynamic:
    """Sizes that vary: their range, and which of them are equal."""

    def test_ranges_are_kept_and_shapes_show_none(self, shared: Signature) -> None:
        """Both inputs have one symbol, with the declared range."""
        batch = DynamicDim(symbol="d0", minimum=2, maximum=8)
        assert [leaf.dims for leaf in shared.inputs if isinstance(leaf, TensorSpec)] == [(batch, 3)] * 2
        assert isinstance(shared.inputs[0], TensorSpec)
        assert shared.inputs[0].shape == (None, 3)
        assert str(shared.inputs[0]) == "float32[2..8, 3]"

    @pytest.mark.parametrize("size", [2, 5, 8])
    def test_sizes_of_the_range_pass(self, shared: Signature, size: int) -> None:
        """Both ends belong to the range."""
        assert len(shared.flatten((tensor(size, 3), tensor(size, 3)))) == 2

    @pytest.mark.parametrize("size", [1, 9])
    def test_sizes_outside_are_refused(self, shared: Signature, size: int) -> None:
        """The dimension and the range are named."""
        with pytest.raises(InputError, match=rf"dimension 0 of argument 0 \('x'\) is {size}") as caught:
            shared.flatten((tensor(size, 3), tensor(size, 3)))
        assert "2..8" in caught.value.needed

    def test_sizes_of_one_symbol_must_be_equal(self, shared: Signature) -> None:
        """The message names both places."""
        seen = r"dimension 0 of argument 1 \('y'\) is 5, but dimension 0 of argument 0 \('x'\) is 4"
        with pytest.raises(InputError, match=seen):
            shared.flatten((tensor(4, 3), tensor(5, 3)))

    def test_sizes_of_two_symbols_are_free(self) -> None:
        """Dimensions captured as different ones may differ."""
        free = signature_of(Sum(), tensor(4, 3), tensor(5, 3), dynamic_shapes=({0: Dim("m")}, {0: Dim("n")}))
        assert len(free.flatten((tensor(6, 3), tensor(900, 3)))) == 2

    def test_the_names_of_dims_do_not_matter(self, shared: Signature) -> None:
        """Symbols are numbered, so equal models have equal signatures."""
        other = Dim("anything", min=2, max=8)
        renamed = signature_of(Sum(), tensor(7, 3), tensor(7, 3), dynamic_shapes=({0: other}, {0: other}))
        assert renamed == shared

    def test_a_size_that_follows_from_another_has_a_formula_and_a_range(self) -> None:
        """Twice a dimension of 1 to 8 lies in 2 to 16."""
        half = Dim("half", min=1, max=8)

        class Pairs(nn.Module):
            def forward(self, x: Any, y: Any) -> Any:
                return x.reshape(-1, 2, 3).sum(1) + y

        signature = signature_of(
            Pairs(), tensor(6, 3), tensor(3, 3), dynamic_shapes=({0: 2 * half}, {0: half})
        )
        assert signature.inputs[0] == TensorSpec(
            name="x", dims=(DynamicDim(symbol="2*d0", minimum=2, maximum=16), 3), dtype=torch.float32
        )

    def test_a_whole_number_may_vary_too(self) -> None:
        """An int argument marked dynamic is a size, not a constant."""

        class Repeat(nn.Module):
            def forward(self, x: Any, n: Any) -> Any:
                return x.sum() + n

        signature = signature_of(Repeat(), tensor(2), 4, dynamic_shapes=(None, Dim.DYNAMIC))
        assert isinstance(signature.inputs[1], SizeSpec)
        assert signature.flatten((tensor(2), 7))[1] == 7
        with pytest.raises(InputError, match=r"\('n'\) is True"):
            signature.flatten((tensor(2), True))

    def test_a_result_whose_size_depends_on_values_has_no_upper_end(self) -> None:
        """The size of a selection is known only when the program runs."""

        class Select(nn.Module):
            def forward(self, x: Any) -> Any:
                return torch.bincount(x)

        signature = signature_of(Select(), torch.tensor([1, 2, 2]))
        (leaf,) = signature.outputs
        assert isinstance(leaf, TensorSpec)
        assert leaf.dims == (DynamicDim(symbol="d0", minimum=0, maximum=None),)


Point = collections.namedtuple("Point", "left right")
pytree._register_namedtuple(Point, serialized_type_name="test_signature.Point")


@dataclasses.dataclass
class Registered:
    """A result class that torch can write down."""

    logits: torch.Tensor
    hidden: list[torch.Tensor]


torch.export.register_dataclass(Registered, serialized_type_name="test_signature.Registered")


@dataclasses.dataclass
class Unnamed:
    """A result class that torch knows, but not under a name."""

    logits: torch.Tensor


pytree.register_pytree_node(Unnamed, lambda u: ([u.logits], None), lambda leaves, _: Unnamed(*leaves))


class Results(nn.Module):
    """Returns a container of the class it is made for."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Any) -> Any:
        return self.make(x, x * 2)


RESULTS = {
    "tensor": lambda x, y: y,
    "tuple of one": lambda x, y: (y,),
    "list": lambda x, y: [y, x],
    "nested": lambda x, y: {"a": (y, [x]), "b": {"c": y}},
    "same tensor twice": lambda x, y: (y, y),
    "input passed through": lambda x, y: (x, y),
    "None among them": lambda x, y: (None, y, {"k": None}),
    "numbers and text": lambda x, y: (1, y, 2.5, True, "text"),
    "namedtuple": lambda x, y: Point(y, x),
    "dataclass": lambda x, y: Registered(y, [x, y]),
    "nothing": lambda x, y: (),
}


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS.keys())
def test_unflatten_makes_what_the_model_returns(make: Any) -> None:
    """Containers, order and values are those of the model's own result."""
    x = tensor(2)
    signature = signature_of(Results(make), x)
    expected = make(x, x * 2)
    leaves = pytree.tree_leaves(expected)
    made = signature.unflatten(leaves)
    assert pytree.tree_structure(made) == pytree.tree_structure(expected)
    assert all(a is b for a, b in zip(pytree.tree_leaves(made), leaves))


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS.keys())
def test_json_round_trip(make: Any) -> None:
    """What is read back equals what was written, and does the same."""
    signature = signature_of(Results(make), tensor(2))
    restored = Signature.from_json(signature.to_json())
    assert restored == signature
    assert type(restored.unflatten(range(len(restored.outputs)))) is type(make(0, 0))


def test_json_round_trip_of_inputs(nested: Signature) -> None:
    """The signature that was read back takes and refuses the same arguments."""
    restored = Signature.from_json(nested.to_json())
    assert restored == nested
    assert len(restored.flatten(ARGS, KWARGS)) == 7
    with pytest.raises(InputError, match=r"argument 2 \('count'\) is 5"):
        restored.flatten(replaced(2, 5), KWARGS)


def test_json_round_trip_of_dynamic_sizes() -> None:
    """Ranges and symbols survive, also those without an end."""
    signature = signature_of(
        Sum(), tensor(4, 3), tensor(5, 3),
        dynamic_shapes=({0: Dim("m")}, {0: Dim("n", min=2, max=9)}),
    )  # fmt: skip
    restored = Signature.from_json(signature.to_json())
    assert restored == signature
    with pytest.raises(InputError, match=r"dimension 0 of argument 1 \('y'\) is 10"):
        restored.flatten((tensor(4, 3), tensor(10, 3)))


def test_outputs_are_described_leaf_by_leaf() -> None:
    """Tensors with shape and dtype, other values as they are, each with its place."""
    signature = signature_of(Results(RESULTS["None among them"]), tensor(2))
    assert signature.outputs == (
        ConstantSpec(name="output[0]", value=None),
        TensorSpec(name="output[1]", dims=(2,), dtype=torch.float32),
        ConstantSpec(name="output[2]['k']", value=None),
    )


def test_unflatten_refuses_another_number_of_leaves() -> None:
    """A program that returns too little is not paired up silently."""
    signature = signature_of(Results(RESULTS["list"]), tensor(2))
    with pytest.raises(ProgramError, match="1 outputs\n  needed: 2"):
        signature.unflatten([tensor(2)])


def test_a_class_without_a_name_matters_only_when_stored() -> None:
    """Such a model runs; writing it down is refused, with what to do."""
    signature = signature_of(Results(lambda x, y: Unnamed(y)), tensor(2))
    assert isinstance(signature.unflatten([tensor(2)]), Unnamed)
    with pytest.raises(ProgramError, match=r"cannot be stored, Unnamed\(logits=\*\)") as caught:
        signature.to_json()
    assert "serialized_type_name" in caught.value.remedy


def test_keys_that_json_would_change_are_refused_when_stored() -> None:
    """A tuple as a key would come back as a list."""
    signature = signature_of(Results(lambda x, y: {(0, 1): y}), tensor(2))
    with pytest.raises(ProgramError, match="cannot be stored"):
        signature.to_json()


def damaged(**changes: Any) -> str:
    data = signature_of(Results(RESULTS["list"]), tensor(2)).to_data()
    return json.dumps({**data, **changes})


DAMAGED = {
    "no inputs": lambda: json.dumps({"outputs": []}),
    "unknown kind": lambda: damaged(inputs=[{"kind": "image", "name": "x"}]),
    "unknown dtype": lambda: damaged(inputs=[{"kind": "tensor", "name": "x", "dims": [], "dtype": "nn"}]),
    "unknown class": lambda: damaged(
        out_spec=[1, {"type": "absent.Class", "context": "null", "children_spec": []}]
    ),
    "no structure": lambda: damaged(in_spec=3),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_does_not_fit_is_refused_when_read(text: Any) -> None:
    """Every damage is one kind of error, which says what to do."""
    with pytest.raises(ProgramError, match="a signature that cannot be read") as caught:
        Signature.from_json(text())
    assert "import the module" in caught.value.remedy


class Passing(nn.Module):
    def forward(self, x: Any = None, y: Any = None) -> Any:
        return pytree.tree_map(lambda leaf: leaf * 2, x) if y is None else y * 2


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        (({"a": tensor(1)},), {}, True),
        ((tensor(1),), {}, False),
        (({"a": tensor(1)}, None), {}, False),
        ((), {"x": {"a": tensor(1)}}, False),
    ],
    ids=["mapping", "tensor", "mapping and another", "by name"],
)
def test_takes_mapping(args: tuple[Any, ...], kwargs: dict[str, Any], expected: bool) -> None:
    """A lone mapping is an argument only where the one positional argument is a mapping."""
    assert signature_of(Passing(), *args, **kwargs).takes_mapping() is expected


def test_a_model_without_inputs() -> None:
    """Nothing is needed, and anything is too much."""

    class Constant(nn.Module):
        def forward(self) -> Any:
            return torch.ones(2)

    signature = signature_of(Constant())
    assert signature.flatten(()) == []
    with pytest.raises(InputError, match=r"^1 positional argument\n  needed: .*: \(\)"):
        signature.flatten((tensor(1),))
