"""The five stages by name, and all of them at once: one program, whole outputs, told decisions."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from flow_nets import BACKEND, Net, images, rand, seeded, sqnr, untouched
from torch import nn
from torch.utils import _pytree as pytree

import quanthost
from quanthost.errors import OverrideError, RequestError
from quanthost.values import (
    Cause,
    Decision,
    DType,
    Override,
    ProgramRecord,
    QSpec,
    Symmetry,
    Verdict,
    from_json,
    to_json,
)

IMAGES = images()


class Told:
    """A progress that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Any:
        self.said.append(name)
        yield
        self.said.append(f"end of {name}")

    def batch(self, done: int, total: int | None) -> None:
        self.said.append((done, total))


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def program(told: Told) -> quanthost.LoweredProgram:
    """``Net`` by one call."""
    model = Net().train()
    model.head.weight.requires_grad_(False)
    with untouched(model):
        return quanthost.quantize(model, IMAGES[0], BACKEND, calibration=IMAGES, progress=told)


def test_stages_alone_give_the_same_program(program: quanthost.LoweredProgram) -> None:
    """The same bytes and the same record."""
    captured = quanthost.capture(Net(), IMAGES[0])
    prepared = quanthost.prepare(captured, backend=BACKEND, recipe="int8_static", overrides=())
    calibrated = quanthost.calibrate(prepared, IMAGES)
    converted = quanthost.convert(calibrated, representation="qdq")
    alone = quanthost.lower(converted)
    assert alone.buffer == program.buffer
    assert alone.record == program.record


def test_progress_is_told(program: quanthost.LoweredProgram, told: Told) -> None:
    """Each stage from beginning to end, and each batch."""
    del program
    batches = [(number, 4) for number in range(1, 5)]
    assert told.said == [
        *("capture", "end of capture", "prepare", "end of prepare"),
        *("calibrate", *batches, "end of calibrate"),
        *("convert", "end of convert", "lower", "end of lower"),
    ]


def test_the_plugins_that_took_part_are_recorded(program: quanthost.LoweredProgram) -> None:
    """With distribution and version."""
    (plugin,) = program.record.plugins
    assert (plugin.name, plugin.distribution, plugin.version) == (BACKEND, "quanthost-xnnpack-like", "0.1.0")


@pytest.mark.parametrize(
    ("asked", "seen", "needed"),
    [
        (
            {"recipe": "int7"},
            "the recipe 'int7', which xnnpack_like does not have",
            "one of int8_static, int8_static_per_tensor, int8_dynamic",
        ),
        ({"options": {"bits": 4}}, "the option 'bits', which xnnpack_like does not have", "no option"),
        ({"placement": "half"}, "placement='half'", "one of cost, all"),
        ({"optimize_for": "speed"}, "optimize_for='speed'", "one of accuracy, latency"),
        ({"toolchain": "quick"}, "toolchain='quick'", "one of fast, upstream"),
        ({"io": "int4"}, "io='int4'", "one of float, int8, uint8, int16"),
        ({"qat": True}, "quantize() with qat=True", "a training loop between prepare and convert"),
        ({"backend": []}, "the backends []", "at least one backend, each once"),
        (
            {"backend": [BACKEND, BACKEND]},
            f"the backends {[BACKEND, BACKEND]!r}",
            "each once, the first preferred",
        ),
        ({"representation": "int"}, "representation='int'", "one of qdq, reference"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_what_cannot_be_had_is_refused(asked: dict[str, Any], seen: str, needed: str) -> None:
    """A request is refused by what is wrong with it, and the model is as it was."""
    model = Net()
    with untouched(model), pytest.raises(RequestError) as caught:
        quanthost.quantize(model, IMAGES[0], **{"backend": BACKEND, "calibration": IMAGES, **asked})
    assert caught.value.seen == seen
    assert needed in caught.value.needed


def test_requests_are_refused_before_the_model_is_traced() -> None:
    """Tracing takes longest; what is known before is said before."""

    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("traced")

    with pytest.raises(RequestError):
        quanthost.quantize(Never(), IMAGES[0], BACKEND, recipe="int7")


def test_calibration_is_not_asked_for_what_needs_none() -> None:
    """A float recipe leaves a generator as it is."""
    data = iter(IMAGES)
    made = quanthost.quantize(Net(), IMAGES[0], BACKEND, recipe="fp32", calibration=data)
    assert next(data) is IMAGES[0]
    assert made.record.data_digest == ""
    assert sqnr(Net()(IMAGES[1]), made.run(IMAGES[1])) > 100


class Parts(nn.Module):
    """Layers of several types and names for overrides to select."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.head = nn.Sequential(nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 4))
        seeded(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(torch.relu(self.stem(x)))
        for block in self.blocks:
            y = y + block(y)
        scores: torch.Tensor = torch.cumsum(self.head(y.flatten(1)), 1)
        return scores


WEIGHT = QSpec(dtype=DType.INT8, quant_min=-127, symmetry=Symmetry.SYMMETRIC)
RULES = (
    Override(module_name="blocks.1", keep_float=True),
    Override(node="linear", recipe="fp32"),
    Override(module_name="head.*", recipe="int8_static_per_tensor"),
    Override(module_type="Conv2d", weight=WEIGHT),
    Override(operator="aten.max_pool2d", keep_float=True),
)


@pytest.fixture(scope="module")
def ruled() -> quanthost.LoweredProgram:
    return quanthost.quantize(Parts(), IMAGES[0], BACKEND, calibration=IMAGES, overrides=RULES)


def of(program: quanthost.LoweredProgram) -> dict[str, Decision]:
    return {decision.node: decision for decision in program.decisions}


def test_overrides_decide(ruled: quanthost.LoweredProgram) -> None:
    """By node, operator, module and type; recipes and qspecs; and the program runs as well as before."""
    made = of(ruled)
    told = {name: (d.verdict, d.cause, d.recipe) for name, d in made.items()}
    assert told["conv2d"] == (Verdict.QUANTIZED, Cause.ROW, "int8_static")
    assert told["max_pool2d"] == (Verdict.FLOAT, Cause.OVERRIDE, None)
    assert told["conv2d_2"] == (Verdict.FLOAT, Cause.OVERRIDE, None)
    assert made["conv2d_2"].reason == "kept in float by override(module_name='blocks.1', keep_float=True)"
    assert told["linear"][0] is Verdict.FLOAT
    assert told["linear_1"] == (Verdict.QUANTIZED, Cause.ROW, "int8_static_per_tensor")
    assert sqnr(Parts()(IMAGES[1]), ruled.run(IMAGES[1])) > 25
    assert ruled.record.overrides == RULES


def test_overrides_reach_the_program(ruled: quanthost.LoweredProgram) -> None:
    """What is kept in float is float in the delegate: no operator is left outside for it."""
    made = of(ruled)
    assert all(made[name].delegated for name in ("conv2d", "max_pool2d", "conv2d_2", "linear", "linear_1"))
    assert ruled.record.outside == ("aten.cumsum.default",)


def test_every_node_has_a_decision(ruled: quanthost.LoweredProgram) -> None:
    """In order, with verdict, cause, reason, and what lowering made of it."""
    nodes = [info.name for info in quanthost.capture(Parts(), IMAGES[0]).nodes()]
    assert [d.node for d in ruled.decisions] == nodes
    assert all(d.reason and d.placement and d.delegated is not None for d in ruled.decisions)
    assert {d.partition for d in ruled.decisions if d.delegated} == {"XnnpackBackend/0"}
    cumsum = of(ruled)["cumsum"]
    assert (cumsum.verdict, cumsum.cause, cumsum.delegated) == (Verdict.FLOAT, Cause.NO_ROW, False)
    assert cumsum.placement == (
        "the runtime's own kernels run aten.cumsum.default: no row of xnnpack_like takes it there"
    )


def test_the_record_survives_json(ruled: quanthost.LoweredProgram) -> None:
    """Overrides, decisions and all."""
    assert from_json(ProgramRecord, to_json(ruled.record)) == ruled.record


def test_an_override_without_effect_is_refused() -> None:
    """It is named, with what there is to select."""
    model = Net()
    rules = [Override(module_name="hed", keep_float=True)]
    with untouched(model), pytest.raises(OverrideError, match=r"override\(module_name='hed'.*matches no"):
        quanthost.quantize(model, IMAGES[0], BACKEND, calibration=IMAGES, overrides=rules)


def test_backends_in_order_of_priority() -> None:
    """What the first has no row for is the second's; its kernels are the runtime's own."""
    model = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Softmax(1), nn.Conv2d(4, 2, 3)))
    both = [BACKEND, "int8_reference"]
    made = quanthost.quantize(model, IMAGES[0], both, "int8_static", calibration=IMAGES)
    owners = {decision.node: decision.backend for decision in made.decisions}
    assert owners == {"conv2d": BACKEND, "relu": BACKEND, "softmax": "int8_reference", "conv2d_1": BACKEND}
    assert [plugin.name for plugin in made.record.plugins] == both
    assert len(made.record.pieces) == 2
    assert sqnr(model(IMAGES[1]), made.run(IMAGES[1])) > 25


class Shaped(nn.Module):
    """Arranges a computed tensor, its inputs and a weight as a test asks."""

    def __init__(self, arrange: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.weight = nn.Parameter(rand(3))
        self.register_buffer("table", rand(2, 2))
        self.arrange = arrange
        seeded(self)

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> Any:
        return self.arrange(self, self.layer(x), x, other)


OUTPUTS: dict[str, Callable[..., Any]] = {
    "an input": lambda s, y, x, o: (y, x),
    "an input by name": lambda s, y, x, o: (o, y),
    "twice": lambda s, y, x, o: [y, y, (y,)],
    "nothing": lambda s, y, x, o: (None, y, None),
    "dictionary": lambda s, y, x, o: {"b": y, "a": {"deep": [(y + 1, None), {}]}},
    "a weight": lambda s, y, x, o: (s.weight, y, s.weight),
    "a buffer and what follows from one": lambda s, y, x, o: (y, s.table, s.table * 2),
    "numbers and text": lambda s, y, x, o: {"n": 3, "t": "text", "b": True, "y": y, "f": 0.5},
    "a view of another": lambda s, y, x, o: (y, y.view(-1), y.t()),
    "integers": lambda s, y, x, o: (y.argmax(1), y > 0, y),
    "one in a list": lambda s, y, x, o: [y],
}


@pytest.mark.parametrize("arrange", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_outputs_have_the_model_s_structure(arrange: Callable[..., Any]) -> None:
    """Containers, constants and values, whatever a program can return by itself."""
    model, x, other = Shaped(arrange), rand(2, 4), rand(2, 4, seed=1)
    made = quanthost.quantize(model, x, BACKEND, recipe="fp32", kwargs={"other": other})
    with torch.no_grad():
        wanted = model(x, other=other)
    got = made.run(x, other=other)
    assert pytree.tree_structure(got) == pytree.tree_structure(wanted)
    for true, value in zip(pytree.tree_leaves(wanted), pytree.tree_leaves(got)):
        if not isinstance(true, torch.Tensor):
            assert value == true
            assert type(value) is type(true)
        elif true.is_floating_point():
            assert value.shape == true.shape
            assert torch.allclose(value, true, atol=1e-5)
        else:
            assert torch.equal(value, true)


def test_outputs_are_not_overwritten_by_the_next_run(program: quanthost.LoweredProgram) -> None:
    """Each run's result is its own memory."""
    first = program.run(IMAGES[0])
    kept = first.clone()
    program.run(IMAGES[1] * 2)
    assert torch.equal(first, kept)


def test_threads_that_run_one_program(program: quanthost.LoweredProgram) -> None:
    """Concurrent calls give each thread the result of its own input."""
    wanted = [program.run(image) for image in IMAGES]
    right: list[bool] = []

    def work(number: int) -> None:
        right.extend(torch.equal(program.run(IMAGES[number]), wanted[number]) for _ in range(50))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert right == [True] * 200


def test_programs_outlive_what_made_them(program: quanthost.LoweredProgram, tmp_path: Path) -> None:
    """A loaded program keeps its bytes alive, through collections of garbage and beside many others."""
    wanted = program.run(IMAGES[0])
    path = program.save(tmp_path / "net.pte")
    loaded = [quanthost.load(path) for _ in range(20)]
    for one in loaded[::2]:
        one.run(IMAGES[0])
    kept = loaded[1::2]
    del loaded
    for _ in range(3):
        gc.collect()
        filler = [bytearray(len(program.buffer)) for _ in range(50)]
        assert all(torch.equal(one.run(IMAGES[0]), wanted) for one in kept)
        del filler


ALONE = """
import sys, torch, quanthost
program = quanthost.load(sys.argv[1])
print(program.record.runtime_modules)
result = program.run(torch.tensor([[1, 3]]))
torch.save(result, sys.argv[2])
print("quanthost_xnnpack_like" in sys.modules)
"""


def test_a_process_that_loads_a_program(tmp_path: Path) -> None:
    """It loads the kernels that the record names, and not the plugin."""
    model = seeded(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 4)))
    made = quanthost.quantize(model, torch.tensor([[1, 3]]), BACKEND, recipe="int8_weight_only")
    assert any(name.startswith("quantized_decomposed.") for name in made.record.outside)
    path = made.save(tmp_path / "net.pte")
    command = [sys.executable, "-c", ALONE, str(path), str(tmp_path / "out.pt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["('executorch.kernels.quantized',)", "False"]
    assert torch.equal(torch.load(tmp_path / "out.pt"), made.run(torch.tensor([[1, 3]])))


def test_dynamic_batch() -> None:
    """One program for every size of the range, with calibration of several sizes."""
    model = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)))
    shapes = ({0: torch.export.Dim("batch", min=1, max=8)},)
    data = [rand(count, 3, 8, 8, seed=count) for count in (1, 3, 8, 8)]
    made = quanthost.quantize(model, data[1], BACKEND, calibration=data, dynamic_shapes=shapes)
    assert len(made.record.pieces) == 1
    for count in (1, 2, 5, 8, 1):
        batch = rand(count, 3, 8, 8, seed=100 + count)
        got = made.run(batch)
        assert got.shape == (count, 4, 4, 4)
        assert sqnr(model(batch), got) > 25


def test_functions_of_torch_are_not_changed() -> None:
    """Lowering leaves no patched function, grad mode or default behind."""
    before = (torch.is_grad_enabled(), torch.get_default_dtype(), F.relu, torch.get_num_threads())
    quanthost.quantize(nn.Linear(4, 4), rand(1, 4), BACKEND, recipe="fp32")
    assert before == (torch.is_grad_enabled(), torch.get_default_dtype(), F.relu, torch.get_num_threads())
