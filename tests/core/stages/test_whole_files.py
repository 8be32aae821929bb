"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quanthost.stages.whole_files import staged, write_whole


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """The new content is there whole, with the permissions that a new file has, and nothing beside it."""
    target, plain = tmp_path / "a.bin", tmp_path / "plain"
    write_whole(target, b"old")
    write_whole(target, b"new")
    plain.touch()

    assert target.read_bytes() == b"new"
    assert target.stat().st_mode == plain.stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"a.bin", "plain"}


def test_a_failure_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the file changes, nor does a temporary one stay."""
    target = tmp_path / "a.bin"
    write_whole(target, b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_staged_file_may_be_moved_away(tmp_path: Path) -> None:
    """It lies in the target's folder, hidden, until the block ends."""
    with staged(tmp_path / "a.bin", b"x") as temporary:
        assert Path(temporary).parent == tmp_path
        assert Path(temporary).name.startswith(".a.bin.")
        os.replace(temporary, tmp_path / "b.bin")
    assert [path.name for path in tmp_path.iterdir()] == ["b.bin"]
