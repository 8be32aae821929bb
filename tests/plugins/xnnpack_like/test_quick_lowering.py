"""Quick lowering gives the program of ExecuTorch's own: each row of the table, and networks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from builders import build
from flow_nets import rand, seeded
from judging import rows_of
from kit import Branches, Case
from torch import Tensor, nn
from two_ways import Convolutional, converted, same_program
from whole import part

import quanthost
from quanthost.api import Kernel
from quanthost.errors import RequestError
from quanthost.toolchain.fast import decompose, retrace

pytestmark = pytest.mark.slow


def _branches(listed: Sequence[Case]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Branches(listed), tuple(tensor for case in listed for tensor in case.inputs)


@pytest.mark.parametrize(
    ("recipe", "kernel"),
    [
        ("int8_static", Kernel.STATIC), ("int8_dynamic", Kernel.DYNAMIC),
        ("int8_weight_only", Kernel.WEIGHT_ONLY), ("fp32", Kernel.FLOAT),
    ],
)  # fmt: skip
def test_rows_of_a_delegate(recipe: str, kernel: Kernel) -> None:
    """The rows as branches of one program."""
    model, inputs = _branches(
        [build(row) for row in part(rows_of(kernel), 1 if kernel is Kernel.WEIGHT_ONLY else 2)]
    )

    same_program(converted(model, inputs, "xnnpack_like", recipe), inputs)


class Mixed(nn.Module):
    """Recurrence, attention, numbers, indices, two results, an input handed through."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(20, 8), nn.LSTM(8, 8, batch_first=True)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)
        seeded(self)

    def forward(self, tokens: Tensor, scale: Tensor) -> dict[str, Tensor]:
        hidden, _ = self.lstm(self.embed(tokens) * 2 + scale)
        attended, weights = self.attend(hidden, hidden, hidden)
        scores = self.head(self.norm(attended + 1).mean(1))
        order = torch.cumsum(tokens, 1)[:, :3] + tokens[:, :3]
        return {"scores": scores.clamp(-2, 2).t(), "order": order, "weights": weights, "scale": scale}


def test_what_only_tracing_can_do() -> None:
    """Composite operators that hold sums are left to torch; the program is the same."""
    inputs = (torch.arange(10).reshape(2, 5), rand(2, 5, 8))

    same_program(converted(Mixed(), inputs, "xnnpack_like", "int8_static"), inputs)


def test_a_vector_through_weights_alone() -> None:
    """A linear layer of one vector, whose decomposition squeezes in place, is left to torch too."""
    inputs = (rand(32),)

    same_program(converted(torch.nn.Linear(32, 6), inputs, "xnnpack_like", "int8_weight_only"), inputs)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("recipe", ["int8_static", "int8_dynamic", "fp32"])
def test_a_network(recipe: str, *, dynamic: bool) -> None:
    """Also with sizes that are not known, which torch traces."""
    x = rand(2, 3, 8, 8)
    shapes = ({0: torch.export.Dim("rows", min=1, max=8)},) if dynamic else None

    quick, upstream = same_program(converted(Convolutional(), (x,), "xnnpack_like", recipe, shapes), (x,))

    assert quick == upstream or recipe != "int8_static"


class Capitals(nn.Module):
    """Attributes in capitals, as checkpoints of transformers have them; two differ in nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.LayerNorm, self.layer_norm, self.layernorm = nn.LayerNorm(8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.Dense, self.dense = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.layer_norm(self.Dense(self.LayerNorm(x)))) + self.layernorm(x)


@pytest.mark.parametrize("recipe", ["int8_static", "fp32"])
def test_names_in_capitals(recipe: str) -> None:
    torch.manual_seed(0)
    model, x = Capitals().eval(), torch.randn(2, 8)
    captured = quanthost.capture(model, (x,))
    prepared = quanthost.prepare(captured, "xnnpack_like", recipe)
    converted = quanthost.convert(quanthost.calibrate(prepared, [(x,)] if recipe != "fp32" else None))
    fast, upstream = (quanthost.lower(converted, toolchain=way).run(x) for way in ("fast", "upstream"))
    assert torch.equal(fast, upstream)
    assert (fast - model(x)).abs().max() < 0.1


def test_shared_weights_are_stored_once() -> None:
    """A weight that two layers share is in the program once, as through the other way."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    model[2].weight = model[0].weight
    x = rand(2, 64)
    lowered_from = converted(model, (x,), "xnnpack_like", "fp32")

    same_program(lowered_from, (x,))
    assert len(quanthost.lower(lowered_from).buffer) < 2 * 64 * 64 * 4


def test_the_toolchain_is_left_as_it_was() -> None:
    """Also after a failure, nothing of torch or ExecuTorch is another."""
    replacements = (*retrace.REPLACEMENTS, *decompose.REPLACEMENTS)
    before = [each.original() for each in replacements]

    with pytest.raises(KeyError), retrace.incremental(), decompose.local_decompositions():
        {}["a failure"]

    assert [each.original() for each in replacements] == before


def test_an_unknown_toolchain() -> None:
    """What there is."""
    x = rand(2, 4)
    lowered_from = converted(nn.Linear(4, 2), (x,), "xnnpack_like", "fp32")

    with pytest.raises(RequestError, match="toolchain='slow'\n  needed: one of fast, upstream"):
        quanthost.lower(lowered_from, toolchain="slow")
    with pytest.warns(quanthost.QuanthostDeprecationWarning, match="use toolchain=… instead") as warned:
        quanthost.lower(lowered_from, lowering="quick")
    assert [each.filename for each in warned if "lowering" in str(each.message)] == [__file__]
