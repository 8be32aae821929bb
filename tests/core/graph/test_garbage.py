"""The collector while a stage works: old objects are left out, and the caller's settings come back."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from quanthost.graph.garbage import collecting_rarely


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Each test has Python's own settings, and leaves them."""
    before = gc.get_threshold()
    gc.unfreeze()
    gc.enable()
    yield
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*before)


class Ring:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_old_objects_are_not_searched() -> None:
    """Inside, a full collection walks what is new; outside, all there is."""
    everything = len(gc.get_objects())

    with collecting_rarely():
        assert len(gc.get_objects()) < everything / 10

    assert len(gc.get_objects()) > everything / 2
    assert gc.get_freeze_count() == 0


def test_new_garbage_is_found() -> None:
    """What a stage drops can be collected before the stage is over."""
    with collecting_rarely():
        dropped = weakref.ref(Ring())
        gc.collect()
        assert dropped() is None


def test_settings_come_back_after_a_failure() -> None:
    gc.set_threshold(500, 7, 8)

    with collecting_rarely():
        assert gc.get_threshold() == (20_000, 7, 8)
    with pytest.raises(KeyError), collecting_rarely():
        {}["a failure"]

    assert gc.get_threshold() == (500, 7, 8)
    assert gc.get_freeze_count() == 0


def test_a_stage_inside_a_stage() -> None:
    """The outer one ends it."""
    with collecting_rarely():
        with collecting_rarely():
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_what_the_caller_froze_stays_frozen() -> None:
    gc.freeze()

    with collecting_rarely():
        pass

    assert gc.get_freeze_count() > 0


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()

    with collecting_rarely():
        assert gc.get_freeze_count() == 0

    assert not gc.isenabled()
