"""The page of words: sorted, one sentence for each word, and only words that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(
    r"^\| ([a-z ]+) \| (.+) \|$", (ROOT / "docs/concepts/words.md").read_text(encoding="utf-8"), re.MULTILINE
)[1:]
CODE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "core").rglob("*.py")))


def test_words_are_sorted_and_few() -> None:
    """Each word stands once, in alphabetical order."""
    words = [word for word, _ in ROWS]

    assert words == sorted(set(words))
    assert 20 < len(words) <= 36


@pytest.mark.parametrize(("word", "meaning"), ROWS, ids=[word for word, _ in ROWS])
def test_a_word_has_one_sentence_and_occurs_in_the_code(word: str, meaning: str) -> None:
    """One sentence, and the word is in the source of the host, as text or in a name."""
    prose = re.sub(r"`[^`]*`", "code", meaning)

    assert re.fullmatch(r"[A-Z][^.!?]*\.", prose)
    assert re.search(rf"(?i)(?<![a-z]){word.replace(' ', '[ _]?')}", CODE)
