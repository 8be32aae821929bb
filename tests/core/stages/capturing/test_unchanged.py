"""A model that ran inside of the guard is as it was: attributes, modes, containers."""

from __future__ import annotations

import collections
from typing import Any

import pytest
import torch
from torch import nn

from quanthost.stages.capturing.unchanged import unchanged


class Messy(nn.Module):
    """Holds each kind of container, some inside of others."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        self.register_buffer("seen", torch.zeros(1))
        self.count = 0
        self.log: list[Any] = [1]
        self.cache: dict[str, Any] = {"deep": {"er": [1, 2]}, "pair": ([3],)}
        self.names = {"a"}
        self.window = collections.deque([1, 2], maxlen=3)
        self.default: dict[str, list[int]] = collections.defaultdict(list)


CHANGES = {
    "number": lambda m: setattr(m, "count", 5),
    "new attribute": lambda m: setattr(m, "fresh", torch.ones(1)),
    "deleted attribute": lambda m: delattr(m, "log"),
    "list": lambda m: m.log.append(2),
    "dictionary": lambda m: m.cache.update(new=1),
    "nested": lambda m: m.cache["deep"]["er"].clear(),
    "inside a tuple": lambda m: m.cache["pair"][0].append(4),
    "set": lambda m: m.names.add("b"),
    "deque": lambda m: m.window.append(9),
    "default made by reading": lambda m: m.default["x"],
    "mode": lambda m: m.eval(),
    "mode of a child": lambda m: m.child[1].eval(),
    "new buffer": lambda m: m.register_buffer("late", torch.ones(1)),
    "buffer replaced": lambda m: setattr(m, "seen", torch.ones(1)),
    "child replaced": lambda m: setattr(m, "child", nn.ReLU()),
    "child added": lambda m: m.child.append(nn.ReLU()),
    "hook": lambda m: m.child.register_forward_hook(lambda *_: None),
    "parameter replaced": lambda m: setattr(m.child[0], "weight", nn.Parameter(torch.ones(2, 2))),
}


def picture(model: Messy) -> Any:
    """Everything that the guard promises to keep, by identity where it has one."""
    state = {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    modes = [(name, id(module), module.training) for name, module in model.named_modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    plain = {k: repr(v) for k, v in vars(model).items() if not k.startswith("_")}
    return state, modes, hooks, plain, {k: id(v) for k, v in vars(model).items() if k != "count"}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("fails", [False, True], ids=["runs", "fails"])
def test_a_change_is_undone(change: Any, fails: bool) -> None:
    """Whatever forward did, and also where it did not come to an end."""
    model = Messy()
    before = picture(model)

    def run() -> None:
        with unchanged(model):
            change(model)
            assert picture(model) != before
            if fails:
                raise KeyError("in forward")

    if fails:
        with pytest.raises(KeyError, match="in forward"):
            run()
    else:
        run()
    assert picture(model) == before


def test_a_container_that_holds_itself_is_no_trap() -> None:
    """Cycles are walked once."""
    model = Messy()
    model.cache["self"] = model.cache
    with unchanged(model):
        model.cache["more"] = 1
    assert set(model.cache) == {"deep", "pair", "self"}


def test_a_container_that_cannot_be_cleared_is_left_alone_while_it_is_unchanged() -> None:
    """Classes of mappings may forbid what nobody needs of them."""

    class Locked(dict[str, int]):
        def clear(self) -> None:
            raise AssertionError("cleared")

    model = Messy()
    model.cache["locked"] = Locked(a=1)
    with unchanged(model):
        model.count += 1
    assert model.count == 0
