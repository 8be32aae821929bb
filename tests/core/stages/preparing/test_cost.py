"""Placement by cost: what follows no integer kernel stays float, in whatever order it is asked."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from quanthost.stages.preparing.cost import Candidate, prune
from quanthost.values import Gain


class Chain:
    """Candidates over a graph of single operators, made in graph order."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.candidates: dict[str, Candidate] = {}

    def float(self, name: str) -> fx.Node:
        """A tensor that no candidate makes: a graph input, or the result of a float operator."""
        return self.graph.placeholder(name)

    def add(
        self, name: str, *inputs: fx.Node, gain: Gain = Gain.FOLLOWS, moves: bool = False, gates: bool = False
    ) -> fx.Node:
        """A candidate of one operator; its node is the tensor that it makes."""
        node = self.graph.create_node("call_function", lambda *args: args, inputs, name=name)
        self.candidates[name] = Candidate(
            nodes=(node,), inputs=inputs, gain=gain, keeps_parameters=moves, has_fixed_range=gates
        )
        return node

    def gate(self, name: str, *inputs: fx.Node) -> fx.Node:
        return self.add(name, *inputs, gates=True)

    def read_as_float(self, node: fx.Node) -> None:
        """One more reader, which is no candidate."""
        self.graph.create_node("call_function", lambda *args: args, (node,))

    def drive(self, name: str, *inputs: fx.Node) -> fx.Node:
        return self.add(name, *inputs, gain=Gain.DRIVES)

    def move(self, name: str, *inputs: fx.Node) -> fx.Node:
        return self.add(name, *inputs, moves=True)

    def fallen(self) -> set[str]:
        names = {candidate: name for name, candidate in self.candidates.items()}
        return {names[candidate] for candidate in prune(self.candidates.values())}


def test_driver_never_falls() -> None:
    """A convolution is quantized wherever it stands."""
    chain = Chain()
    chain.drive("conv", chain.float("x"))
    assert chain.fallen() == set()


def test_follower_between_two_drivers() -> None:
    """An activation between two convolutions saves the conversions around it."""
    chain = Chain()
    chain.drive("conv_1", chain.add("relu", chain.drive("conv", chain.float("x"))))
    assert chain.fallen() == set()


def test_follower_at_the_edge() -> None:
    """One that a driver feeds, but whose result nobody wants as integers, would be quantized for itself."""
    chain = Chain()
    chain.add("relu", chain.drive("conv", chain.float("x")))
    assert chain.fallen() == {"relu"}


def test_reason_names_the_tensors() -> None:
    """The reason says which tensors would be quantized for the operator alone, each once."""
    chain = Chain()
    driven, loose = chain.drive("conv", chain.float("x")), chain.float("mask")
    chain.add("add", driven, loose, loose)
    assert prune(chain.candidates.values()) == {
        chain.candidates["add"]: "left in float: no neighbouring operator uses mask or add as int8"
    }


def test_gate_between_drivers() -> None:
    """x · sigmoid(x): the gate's result has no driver, but nothing around the product is converted then."""
    chain = Chain()
    driven = chain.drive("conv", chain.float("x"))
    chain.drive("conv_1", chain.add("mul", driven, chain.gate("sigmoid", driven)))
    assert chain.fallen() == set()


def test_gate_of_a_gate() -> None:
    """A product of two gates is anchored by both."""
    chain = Chain()
    driven = chain.drive("conv", chain.float("x"))
    product = chain.add("mul", chain.gate("sigmoid", driven), chain.gate("tanh", driven))
    chain.drive("conv_1", product)
    assert chain.fallen() == set()


def test_gate_that_a_float_operator_reads_too() -> None:
    """It is computed in float then, and the product with it."""
    chain = Chain()
    driven = chain.drive("conv", chain.float("x"))
    gate = chain.gate("sigmoid", driven)
    chain.read_as_float(gate)
    chain.drive("conv_1", chain.add("mul", driven, gate))
    assert chain.fallen() == {"sigmoid", "mul"}


def test_gate_that_feeds_what_falls() -> None:
    """Where the product goes to nobody who wants integers, product and gate stay float."""
    chain = Chain()
    driven = chain.drive("conv", chain.float("x"))
    chain.add("mul", driven, chain.gate("sigmoid", driven))
    assert chain.fallen() == {"sigmoid", "mul"}


def test_gate_at_the_head() -> None:
    """A probability that is the model's result keeps its float digits."""
    chain = Chain()
    chain.gate("sigmoid", chain.drive("linear", chain.float("x")))
    assert chain.fallen() == {"sigmoid"}


def test_float_island() -> None:
    """Followers and movers that only feed each other stay float, however many they are."""
    chain = Chain()
    x = chain.float("x")
    view, permute = chain.move("view", x), chain.move("permute", x)
    total = chain.add("add", view, permute)
    chain.move("cat", chain.move("view_1", total), total)
    assert chain.fallen() == {"view", "permute", "add", "view_1", "cat"}


def test_chain_of_followers() -> None:
    """A follower needs anchors of its own: two in a row between drivers have a tensor that nobody drives."""
    chain = Chain()
    first = chain.add("relu", chain.drive("conv", chain.float("x")))
    chain.drive("conv_1", chain.add("tanh", first))
    assert chain.fallen() == {"relu", "tanh"}


def test_movers_pass_the_anchor_on() -> None:
    """What moves one tensor stays with a driver on either side, over any distance, against the arrows too."""
    chain = Chain()
    node = chain.drive("conv", chain.float("x"))
    for i in range(5):
        node = chain.move(f"view_{i}", node)
    assert chain.fallen() == set()
    before = Chain()
    node = before.float("x")
    for i in range(5):
        node = before.move(f"view_{i}", node)
    before.drive("conv", node)
    assert before.fallen() == set()


def test_follower_behind_movers() -> None:
    """A follower between moved results of drivers is as good as between the drivers."""
    chain = Chain()
    first = chain.move("view", chain.drive("conv", chain.float("x")))
    second = chain.move("permute", chain.drive("linear", chain.float("y")))
    chain.drive("conv_1", chain.move("slice", chain.add("add", first, second)))
    assert chain.fallen() == set()


def test_mover_of_several_tensors_is_no_bridge() -> None:
    """A concatenation needs all its tensors anchored, and anchors none."""
    chain = Chain()
    driven = chain.drive("conv", chain.float("x"))
    joined = chain.move("cat", driven, chain.add("tanh", chain.float("y")))
    chain.move("view", joined)
    assert chain.fallen() == {"cat", "tanh", "view"}
    whole = Chain()
    inputs = [whole.drive(f"conv_{i}", whole.float(f"x_{i}")) for i in range(2)]
    whole.drive("conv", whole.move("cat", *inputs))
    assert whole.fallen() == set()


def test_driver_reads_what_a_follower_makes() -> None:
    """A tensor that a driver takes is quantized in any case, whoever makes it."""
    chain = Chain()
    x = chain.float("x")
    chain.drive("conv", x)
    chain.drive("conv_1", chain.add("relu", x))
    assert chain.fallen() == set()


def test_nothing_to_judge() -> None:
    """No candidate, no verdict."""
    assert prune([]) == {}


def random_chain(seed: int, size: int) -> Chain:
    generator = random.Random(seed)
    chain = Chain()
    made = [chain.float("x"), chain.float("y")]
    for i in range(size):
        kind = generator.choice(["drive", "move", "add", "add2", "gate", "float"])
        if kind == "float":
            made.append(chain.float(f"float_{i}"))
        elif kind == "add2":
            made.append(chain.add(f"add_{i}", *generator.choices(made[-4:], k=2)))
        else:
            made.append(getattr(chain, kind)(f"{kind}_{i}", generator.choice(made[-4:])))
    return chain


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 14))
@settings(max_examples=100)
def test_order_does_not_matter(seed: int, size: int) -> None:
    """Every order of the candidates gives the same verdicts with the same reasons."""
    candidates = list(random_chain(seed, size).candidates.values())
    expected = prune(candidates)
    random.Random(seed).shuffle(candidates)
    assert prune(candidates) == expected
    assert prune(iter(candidates)) == expected


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 14))
@settings(max_examples=100)
def test_verdicts_are_sound(seed: int, size: int) -> None:
    """What stays has all its tensors quantized by somebody who stays, and leads to a driver."""
    chain = random_chain(seed, size)
    fallen = prune(chain.candidates.values())
    alive = [c for c in chain.candidates.values() if c not in fallen]
    assert all(candidate.gain is Gain.FOLLOWS for candidate in fallen)
    reached = {t for c in alive if c.gain is Gain.DRIVES for t in c.tensors}
    for _ in alive:
        reached.update(t for c in alive if not reached.isdisjoint(c.tensors) for t in c.tensors)
    assert all(set(candidate.tensors) <= reached for candidate in alive)


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12))
@settings(max_examples=100)
def test_another_driver_makes_nobody_fall(seed: int, size: int) -> None:
    """Anchors only grow: where one more operator drives, all who stayed stay."""
    chain = random_chain(seed, size)
    fallen = chain.fallen()
    reader = random.Random(seed).choice(list(chain.graph.nodes))
    chain.drive("another", reader)
    assert chain.fallen() <= fallen
