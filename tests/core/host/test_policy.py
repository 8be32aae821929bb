"""Tests of the allow list and the block list."""

import pytest

from quanthost.errors import RequestError
from quanthost.host.policy import Policy


@pytest.mark.parametrize(
    ("text", "admitted"),
    [
        ("", "abc"),
        (" , ", "abc"),
        ("a,b", "ab"),
        ("-c", "ab"),
        ("!c", "ab"),
        (" a , - b ", "a"),
        ("a,b,-b", "a"),
        ("-a,-b,!c", ""),
    ],
)
def test_text(text: str, admitted: str) -> None:
    """Entries without a sign allow, entries with one block, blocking wins, blank text restricts nothing."""
    policy = Policy.from_text(text, where="here")

    assert "".join(name for name in "abc" if policy.admits(name)) == admitted


@pytest.mark.parametrize("entry", ["-", "!", "- "])
def test_sign_without_a_name(entry: str) -> None:
    """A lone sign is refused, and the error says where it stands."""
    with pytest.raises(RequestError, match=r"the entry '.*' without a name") as caught:
        Policy.from_text(f"a,{entry}", where="QUANTHOST_BACKENDS")

    assert caught.value.where == "QUANTHOST_BACKENDS"


@pytest.mark.parametrize(
    ("environment", "argument", "admitted"),
    [
        ("a,b", None, "ab"),
        ("a,b", "b,c", "b"),
        ("a,b", ("b", "c"), "b"),
        ("-a", "a,b", "b"),
        ("a", "-a", ""),
        ("-a", ("-b",), "c"),
        ("", (), ""),
        ("", "", "abc"),
    ],
)
def test_environment_and_argument(
    environment: str,
    argument: str | tuple[str, ...] | None,
    admitted: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The argument narrows what the environment admits and never widens it."""
    monkeypatch.setenv("QUANTHOST_BACKENDS", environment)
    policy = Policy.of(argument)

    assert "".join(name for name in "abc" if policy.admits(name)) == admitted


def test_unset_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable everything is admitted."""
    monkeypatch.delenv("QUANTHOST_BACKENDS", raising=False)

    assert Policy.of() == Policy(allowed=None, blocked=())


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (Policy(), "allowed: any; blocked: none"),
        (Policy(allowed=("a", "b"), blocked=("c",)), "allowed: a, b; blocked: c"),
        (Policy(allowed=()), "allowed: none; blocked: none"),
    ],
)
def test_words(policy: Policy, text: str) -> None:
    """The text of a policy tells an empty allow list from an absent one."""
    assert str(policy) == text
