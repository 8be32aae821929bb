"""A folder appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from quanthost.errors import RequestError
from quanthost.scaffold.writing import refuse_existing, write_folder


def test_files_lie_in_folders(tmp_path: Path) -> None:
    """Folders between are made, and nothing else is left beside the new one."""
    write_folder(tmp_path / "new", {"a.txt": "one\n", "b/c.txt": "ä\n"})

    assert (tmp_path / "new" / "b" / "c.txt").read_bytes() == "ä\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """A name that is no file's ends in an error, without a folder."""
    with pytest.raises(RequestError, match="which cannot be written"):
        write_folder(tmp_path / "new", {"a.txt": "one\n", "a.txt/b.txt": "two\n"})
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_refused(tmp_path: Path) -> None:
    """A folder, and a link to nowhere; a place in no folder."""
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(RequestError, match="which exists"):
        refuse_existing(tmp_path / "link")
    with pytest.raises(RequestError, match="which is not a folder"):
        refuse_existing(tmp_path / "absent" / "new")
