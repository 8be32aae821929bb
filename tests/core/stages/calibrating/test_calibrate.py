"""``calibrate``: what it takes as a batch, what it refuses and how it says so, and what it leaves alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from flow_nets import BACKEND, Net, Pair, images, prepared, rand, seeded, torch_threads, untouched
from torch import nn

import quanthost
from quanthost.errors import CalibrationError, InputError
from quanthost.stages.calibrating.observing import tensors_that_need_data
from quanthost.stages.records import PreparedModel
from quanthost.toolchain.observers import RangeObserver

A, B = rand(2, 4), rand(2, 3, seed=1)


@pytest.fixture(scope="module")
def net() -> PreparedModel:
    return prepared()


@pytest.fixture(scope="module")
def pair() -> PreparedModel:
    return prepared(Pair(), (A, B))


def refused(prepared_model: PreparedModel, batches: Any, kind: type[Exception] = CalibrationError) -> str:
    """The whole text with which the data is refused; the prepared model must be as it was."""
    with untouched(prepared_model.module), pytest.raises(kind) as caught:
        quanthost.calibrate(prepared_model, batches)
    return str(caught.value)


NO_BATCH = """\
calibration data with no batch
  needed: at least one batch
  where:  stage calibrate
  to do:  check that the loader is not empty, and that a generator was not used before"""


def test_empty_data_is_refused(net: PreparedModel) -> None:
    """An empty loader gives no range."""
    assert refused(net, []) == NO_BATCH


def test_used_up_generator_is_refused(net: PreparedModel) -> None:
    """The second pass over a generator sees nothing."""
    data = (image for image in images(2))
    assert quanthost.calibrate(net, data).batches == 2
    assert refused(net, data) == NO_BATCH


def test_missing_data_is_refused_with_the_tensors_that_need_it(net: PreparedModel) -> None:
    """Without data the message names captured nodes, which an override can name too."""
    assert (
        refused(net, None)
        == """\
no calibration data
  needed: batches for the static ranges of image, relu, mean, linear
  where:  stage calibrate
  to do:  pass batches of real inputs as calibration, or choose a recipe that needs none: int8_dynamic,\
 int4_group_dynamic, int8_weight_only, fp32"""
    )


def test_missing_data_names_five_tensors_at_most() -> None:
    """A long list is cut, and its rest counted."""
    model = seeded(nn.Sequential(*(nn.Linear(4, 4) for _ in range(7))))
    text = refused(prepared(model, A), None)
    assert "static ranges of input_1, linear, linear_1, linear_2, linear_3 and 3 more" in text


def test_labels_in_the_loader_are_refused(net: PreparedModel) -> None:
    """A loader of (image, label) is the usual mistake."""
    assert (
        refused(net, [(images(1)[0], torch.tensor([3]))], InputError)
        == """\
batch 1: 2 positional arguments
  needed: the arguments of the captured call: (image)
  where:  argument 1 is one too many
  to do:  pass the same arguments, by position and by name as they were captured; if the loader\
 yields labels too, pass the inputs alone"""
    )


def test_missing_argument_is_refused(pair: PreparedModel) -> None:
    """One tensor for two arguments; nothing is said of labels."""
    text = refused(pair, [A], InputError)
    assert text.startswith("batch 1: 1 positional argument\n")
    assert "argument 1 ('b') is missing" in text
    assert "labels" not in text


@pytest.mark.parametrize(
    ("batch", "seen"),
    [
        (rand(1, 3, 9, 9), "float32[1, 3, 9, 9]"),
        (rand(1, 3, 8, 8).double(), "float64[1, 3, 8, 8]"),
    ],
    ids=["shape", "dtype"],
)  # fmt: skip
def test_other_tensors_are_refused(net: PreparedModel, batch: torch.Tensor, seen: str) -> None:
    """Shape and dtype are those of the captured call; the batch is counted from one."""
    text = refused(net, [images(1)[0], batch], InputError)
    assert text.startswith(f"batch 2: argument 0 ('image') is {seen}\n  needed: float32[1, 3, 8, 8]\n")


@pytest.mark.parametrize(
    ("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "Inf"), (float("-inf"), "Inf")], ids=str
)
def test_numbers_that_are_not_finite_are_refused(pair: PreparedModel, value: float, kind: str) -> None:
    """The message names the tensor and the batch."""
    broken = B.clone()
    broken[1, 2] = value
    assert (
        refused(pair, [(A, B), (A, B), (A, broken)])
        == f"""\
{kind} in the tensor 'b' of batch 3
  needed: finite numbers
  where:  stage calibrate
  to do:  clean the data, or leave this batch out; an additive mask may hold torch.finfo(dtype).min in place\
 of -inf"""
    )


def test_the_first_bad_batch_is_named(net: PreparedModel) -> None:
    """Also where threads look at several at once."""
    data = [*images(5), images(1)[0] * float("nan"), torch.zeros(2), *images(5)]
    with torch_threads(3):
        assert refused(net, data).startswith("NaN in the tensor 'image' of batch 6")
        assert refused(net, data[6:], InputError).startswith("batch 1: ")


def test_batches_of_other_kinds_are_refused(net: PreparedModel) -> None:
    """What is no tensor, list or mapping says how to become one."""
    assert (
        refused(net, [images(1)[0].numpy()])
        == """\
batch 1 of type ndarray
  needed: a tensor, a tuple or list of arguments, or a mapping of arguments by name
  where:  stage calibrate
  to do:  convert it first, for example torch.from_numpy(batch)"""
    )


class Inner(nn.Module):
    """Does something between two layers that data alone can break."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.act = act
        seeded(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(self.act(self.first(x)))
        return y


def test_intermediate_nan_is_refused() -> None:
    """The input is finite, a tensor inside is not: the message names the node that makes it."""
    text = refused(prepared(Inner(lambda y: torch.log(y)), A), [A])
    assert (
        text
        == """\
log became NaN 4 times while observed
  needed: finite numbers in each observed tensor
  where:  stage calibrate, node log
  to do:  find the operator that turns these inputs into NaN, or keep the node in float"""
    )


@pytest.mark.parametrize(("size", "times"), [(1e20, 8), (1e16, 7)], ids=["infinite", "huge"])
def test_intermediate_overflow_is_refused(size: float, times: int) -> None:
    """A range that holds a mask's sentinel, or an overflow, has no resolution left."""
    assert (
        refused(prepared(Inner(lambda y: y * y), A), [A * size])
        == f"""\
mul was infinite or beyond ±1e+30 {times} times while observed
  needed: a range that the integers can resolve
  where:  stage calibrate, node mul
  to do:  if it holds a mask, keep the operators that produce and read it in float; else find the\
 operator that overflows"""
    )


def test_tensor_that_no_batch_reached_is_refused() -> None:
    """Batches without a row leave every range empty."""
    dynamic = ({0: torch.export.Dim("rows", min=0, max=8)},)
    captured = quanthost.capture(seeded(nn.Linear(4, 4)), rand(2, 4), dynamic_shapes=dynamic)
    empty = quanthost.prepare(captured, BACKEND)
    assert (
        refused(empty, [torch.zeros(0, 4), torch.zeros(0, 4)])
        == """\
no batch reached input_1
  needed: data for each observed tensor
  where:  stage calibrate, node input_1
  to do:  add batches that take this path, or keep the node in float"""
    )


@pytest.mark.parametrize(
    "batch",
    [(A, B), [A, B], {"a": A, "b": B}, {"b": B, "a": A}],
    ids=["tuple", "list", "mapping", "mapping in another order"],
)
def test_kinds_of_batches(pair: PreparedModel, batch: Any) -> None:
    """One batch in any form gives one digest and one set of ranges."""
    reference = quanthost.calibrate(pair, [(A, B)])
    given = quanthost.calibrate(pair, [batch])
    assert given.data_digest == reference.data_digest
    assert ranges(given.module) == ranges(reference.module)


def ranges(module: nn.Module) -> dict[str, str]:
    return {n: str(m.statistics) for n, m in module.named_modules() if isinstance(m, RangeObserver)}


def test_lone_tensor_is_the_only_argument(net: PreparedModel) -> None:
    """A tensor and a tuple of it are the same batch."""
    image = images(1)[0]
    assert quanthost.calibrate(net, [image]).data_digest == quanthost.calibrate(net, [(image,)]).data_digest


def test_mapping_as_the_only_argument() -> None:
    """Where the model's argument is a dictionary, a batch is that dictionary."""

    class Takes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            y: torch.Tensor = self.layer(batch["x"])
            return y

    takes = prepared(seeded(Takes()), ({"x": A},))
    assert quanthost.calibrate(takes, [{"x": A}]).batches == 1


def test_numbers_beside_tensors() -> None:
    """An argument that tracing fixed is given again, and kept out of the sample."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, times: int = 1) -> torch.Tensor:
            y: torch.Tensor = self.layer(x) * times
            return y

    scaled = prepared(seeded(Scaled()), (A, 3))
    assert quanthost.calibrate(scaled, [(A, 3)]).sample == ()
    assert "3, which tracing made part of the program" in refused(scaled, [(A, 4)], InputError)


def test_every_batch_is_observed(net: PreparedModel) -> None:
    """Count and ranges are over all batches, whatever their order."""
    data = images(5)
    forward, backward = (quanthost.calibrate(net, order) for order in (data, data[::-1]))
    assert forward.batches == backward.batches == 5
    assert ranges(forward.module) == ranges(backward.module)
    assert forward.data_digest == backward.data_digest != quanthost.calibrate(net, data[1:]).data_digest
    seen = next(m for m in forward.module.modules() if isinstance(m, RangeObserver) and not m.once)
    assert seen.statistics.maximum == max(float(image.max()) for image in data)


def test_sample_is_a_copy_of_some_batches(net: PreparedModel) -> None:
    """A loader may reuse its buffer: what convert judges by is kept apart from it."""
    buffer = images(1)[0]

    def loader(numbers: Iterable[int]) -> Iterator[torch.Tensor]:
        for number in numbers:
            buffer.fill_(float(number))
            yield buffer

    def kept(numbers: Iterable[int]) -> list[float]:
        return [float(flat[0].mean()) for flat in quanthost.calibrate(net, loader(numbers)).sample]

    forward = kept(range(200))
    assert len(set(forward)) == len(forward) == 128
    assert set(forward) < set(range(200))
    assert kept(reversed(range(200))) == forward


def test_large_batches_make_a_small_sample() -> None:
    """Two batches at least, a million values at most, and none twice."""
    model = seeded(nn.Sequential(nn.AvgPool2d(64), nn.Flatten(), nn.Linear(3 * 36, 2)))
    large = [rand(1, 3, 384, 384, seed=seed) for seed in range(3)]
    ready = prepared(model, large[0])

    def size(data: list[torch.Tensor]) -> int:
        return len(quanthost.calibrate(ready, data).sample)

    assert [size(large[:1]), size(large[:2]), size(large), size(large[:1] * 3)] == [1, 2, 2, 1]


@pytest.mark.parametrize("recipe", ["int8_dynamic", "int8_weight_only", "fp32"])
def test_recipes_that_need_no_data(recipe: str) -> None:
    """``None`` is enough; the weights are read all the same."""
    without = prepared(recipe=recipe)
    assert tensors_that_need_data(without.module) == []
    made = quanthost.calibrate(without, None)
    assert (made.batches, made.data_digest) == (0, "")
    weights = [m for m in made.module.modules() if isinstance(m, RangeObserver) and m.once]
    assert all(m.batches == 1 for m in weights)
    assert bool(weights) == (recipe != "fp32")


class Told:
    """A progress that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def stage(self, name: str) -> contextlib.AbstractContextManager[None]:
        self.said.append(name)
        return contextlib.nullcontext()

    def batch(self, done: int, total: int | None) -> None:
        self.said.append((done, total))

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(
    ("data", "total"), [(images(3), 3), (iter(images(3)), None)], ids=["with a length", "without"]
)
def test_progress_is_told_after_each_batch(
    net: PreparedModel, data: Iterable[Any], total: int | None
) -> None:
    """With the total where the data has a length."""
    told = Told()
    quanthost.calibrate(net, data, told)
    assert told.said == [(1, total), (2, total), (3, total)]


def test_the_prepared_model_is_left_alone(net: PreparedModel) -> None:
    """Ranges lie in the result; the same prepared model can be calibrated again."""
    with untouched(net.module):
        made = quanthost.calibrate(net, images())
    assert made.prepared is net
    assert made.module is not net.module
    assert ranges(made.module) == ranges(quanthost.calibrate(net, images()).module)


def test_gradients_stay_off(net: PreparedModel) -> None:
    """Data that requires gradients leaves no graph of autograd behind."""
    image = images(1)[0].requires_grad_()
    made = quanthost.calibrate(net, [image])
    assert image.grad is None
    assert not any(flat.requires_grad for batch in made.sample for flat in batch)
    assert Net().stem.weight.requires_grad
