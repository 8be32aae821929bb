"""Rows in sequence: each row behind another and before one, the same at each call."""

from __future__ import annotations

import pytest
from invented_plans import invent_plans, select
from torch import nn
from toy_backends import RECIPE, ROWS

from quanthost.testing import Expectations
from quanthost.testing.areas.chains import (
    Chain,
    build_chains,
    build_chains_with_float,
    build_kept_in_float,
    build_split_chains,
)
from quanthost.testing.proving.session import Session

NAMES = {row.name for row in ROWS}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    """Each row holds in each sample."""
    selection = select()
    invent_plans(monkeypatch, selection, lambda _: ())
    return Session(selection, Expectations())


def names(chains: list[Chain], kind: str) -> list[str]:
    return [chain.name for chain in chains if chain.kind == kind]


def test_pairs_and_triples(session: Session) -> None:
    """No pair twice; each row that fits somewhere is in one; a small table has some of three rows."""
    chains = list(build_chains(session, RECIPE))
    pairs = names(chains, "pair")

    assert len(pairs) == len(set(pairs))
    assert {name for pair in pairs for name in pair.split("+")} == NAMES
    assert all(len(name.split("+")) == 3 for name in names(chains, "chain"))
    assert names(chains, "chain")
    assert [c.name for c in build_chains(session, RECIPE)] == [c.name for c in chains]


def test_float_between(session: Session) -> None:
    """A function that no row has stands between two rows."""
    chain = next(build_split_chains(session, RECIPE))

    assert chain.kind == "around"
    assert set(chain.name.split("+")) <= NAMES
    assert any(isinstance(module, nn.Sequential) for module in chain.sample.module.modules())


def test_kept_in_float(session: Session) -> None:
    """Each operator of a row is wrapped in a module called ``kept``."""
    chains = list(build_kept_in_float(session, RECIPE))

    assert {chain.name for chain in chains} >= {"relu/relu"}
    assert all(chain.kind == "kept" and chain.sample.keeps_float for chain in chains)
    assert all(any(n.endswith("kept") for n, _ in c.sample.module.named_modules()) for c in chains)


def test_without_a_float_recipe(session: Session) -> None:
    """There are no rows that stay float."""
    assert list(build_chains_with_float(session, RECIPE)) == []
