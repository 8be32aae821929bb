"""Work in several threads: its order, its errors, how much of it is begun, and what torch is left with."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from flow_nets import torch_threads

from quanthost.stages.calibrating.threads import ThreadTeam


def never(item: int) -> bool:
    return False


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    """Also where the first takes longest."""

    def work(item: int) -> int:
        time.sleep(0.03 if item == 0 else 0.0)
        return item * item

    with torch_threads(threads), ThreadTeam(work, threads=True, alone=never) as team:
        assert team.size == threads
        assert list(team.map(range(9))) == [item * item for item in range(9)]
        assert list(team.map(range(0))) == []


def test_as_many_run_at_once_as_there_are_threads() -> None:
    """Each waits for the other two: with fewer at once, none would end."""
    barrier = threading.Barrier(3, timeout=10.0)

    def work(item: int) -> int:
        barrier.wait()
        return torch.get_num_threads()

    with torch_threads(3), ThreadTeam(work, threads=True, alone=never) as team:
        assert list(team.map(range(6))) == [1] * 6


def test_torch_keeps_its_threads() -> None:
    """After the work, after an error, and in threads that begin later; eight share them at most."""

    def begun_later() -> int:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return found[0]

    def work(item: int) -> int:
        if item == 3:
            raise ValueError(item)
        return torch.get_num_threads()

    with torch_threads(17):
        with ThreadTeam(work, threads=True, alone=never) as team:
            assert team.size == 8
            assert list(team.map(range(3))) == [2, 2, 2]
        assert (torch.get_num_threads(), begun_later()) == (17, 17)
        with pytest.raises(ValueError, match="3"), ThreadTeam(work, threads=True, alone=never) as team:
            list(team.map(range(9)))
        assert (torch.get_num_threads(), begun_later()) == (17, 17)


def test_no_more_is_drawn_than_can_be_begun() -> None:
    """One item more than there are threads, so that a long stream takes no memory."""
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            drawn.append(item)
            yield item

    with torch_threads(2), ThreadTeam(lambda item: item, threads=True, alone=never) as team:
        ahead = [len(drawn) - given for given in team.map(items())]
    assert max(ahead) == 3
    assert len(drawn) == 20


def test_the_first_error_is_raised() -> None:
    """In the order of the items, not of time; what came before is handed out."""

    def work(item: int) -> int:
        if item == 2:
            time.sleep(0.03)
        if item in (2, 3):
            raise ValueError(f"item {item}")
        return item

    seen: list[int] = []

    def take() -> None:
        with ThreadTeam(work, threads=True, alone=never) as team:
            seen.extend(team.map(range(8)))

    with torch_threads(4), pytest.raises(ValueError, match="item 2"):
        take()
    assert seen == [0, 1]


def test_an_error_of_drawing_comes_after_those_of_earlier_items() -> None:
    """What was drawn before it is worked on first."""

    def items(bad: int) -> Iterator[int]:
        yield from (0, bad)
        raise KeyError("no more")

    def work(item: int) -> int:
        time.sleep(0.01)
        if item < 0:
            raise ValueError(item)
        return item

    for threads in (1, 3):
        with torch_threads(threads), ThreadTeam(work, threads=True, alone=never) as team:
            with pytest.raises(ValueError, match="-1"):
                list(team.map(items(-1)))
            with pytest.raises(KeyError, match="no more"):
                list(team.map(items(1)))


def test_work_that_is_to_be_alone_has_all_threads_and_no_neighbour() -> None:
    """It runs where it was asked for."""
    running: list[int] = []
    beside: dict[int, tuple[int, int, bool]] = {}

    def work(item: int) -> int:
        running.append(item)
        time.sleep(0.002)
        main = threading.current_thread() is threading.main_thread()
        beside[item] = (len(running), torch.get_num_threads(), main)
        running.remove(item)
        return item

    with torch_threads(3), ThreadTeam(work, threads=True, alone=lambda item: item % 4 == 2) as team:
        assert list(team.map(range(12))) == list(range(12))
        assert torch.get_num_threads() == 1
    assert [beside[item] for item in (2, 6, 10)] == [(1, 3, True)] * 3
    assert all(beside[item][1:] == (1, False) for item in range(12) if item % 4 != 2)


def test_one_after_the_other_where_threads_are_not_allowed() -> None:
    """In the thread that asks, with all of torch's threads, each before the next is drawn."""
    log: list[str] = []

    def items() -> Iterator[int]:
        for item in range(3):
            log.append(f"drawn {item}")
            yield item

    def work(item: int) -> int:
        log.append(f"done {item}")
        assert threading.current_thread() is threading.main_thread()
        return torch.get_num_threads()

    with torch_threads(4), ThreadTeam(work, threads=False, alone=never) as team:
        assert list(team.map(items())) == [4, 4, 4]
    assert log == ["drawn 0", "done 0", "drawn 1", "done 1", "drawn 2", "done 2"]
