"""What of a cache goes when it has grown too large."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from quanthost.errors import RequestError
from quanthost.host.eviction import evict, size_limit


def put(folder: Path, name: str, size: int, age: float) -> None:
    path = folder / name
    path.write_bytes(bytes(size))
    then = time.time() - age
    os.utime(path, (then, then))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 10 << 30),
        ("0", 0),
        ("12345", 12345),
        ("500M", 500 << 20),
        ("2g", 2 << 30),
        (" 3 ", 3),
        ("1KiB", 1024),
    ],
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    """Bytes, or powers of 1024; unset and empty are the default."""
    monkeypatch.setenv("QUANTHOST_CACHE_SIZE", text)
    assert size_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "1.5G", "5X", "G"])
def test_what_is_no_size(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The message has what was seen, and an example."""
    monkeypatch.setenv("QUANTHOST_CACHE_SIZE", text)
    with pytest.raises(RequestError, match=rf"the size '{text}'(.*\n)*.*for example 500M"):
        size_limit()


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        (100, ["a.json", "a.pte", "b.begun.safetensors", "c.pte"]),
        (99, ["a.json", "a.pte", "c.pte"]),
        (60, ["a.json", "a.pte", "c.pte"]),
        (59, ["a.json", "a.pte"]),
        (39, []),
    ],
)
def test_the_least_recently_used_go_first(tmp_path: Path, limit: int, left: list[str]) -> None:
    """An entry has all its files, and was used when one of them was; no more goes than must."""
    put(tmp_path, "a.pte", 30, age=1)
    put(tmp_path, "a.json", 10, age=900)
    put(tmp_path, "b.begun.safetensors", 40, age=800)
    put(tmp_path, "c.pte", 20, age=20)
    evict([tmp_path], limit)
    assert names(tmp_path) == left


def test_folders_count_together(tmp_path: Path) -> None:
    """The same name in two folders is two entries."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, age in ((one, 10), (other, 5)):
        folder.mkdir()
        put(folder, "a.pte", 10, age=age)
    evict([one, other], 10)
    assert (names(one), names(other)) == ([], ["a.pte"])


def test_what_killed_processes_left(tmp_path: Path) -> None:
    """Goes after an hour, whatever the limit; a file that is being written is no entry."""
    put(tmp_path, ".a.pte.x1", 10, age=4000)
    put(tmp_path, ".b.pte.x2", 10, age=10)
    evict([tmp_path], 0)
    assert names(tmp_path) == [".b.pte.x2"]
