"""A plan of a new backend: names that follow from one, and names that are refused."""

from __future__ import annotations

import pytest

from quanthost.errors import RequestError
from quanthost.scaffold.plan import Kind, make_plan


def test_names_follow_from_one() -> None:
    """Distribution, package, class and delegate are spelled as each is by custom."""
    plan = make_plan("my_npu", kind=Kind.DELEGATE)

    assert (plan.distribution, plan.package) == ("quanthost-my-npu", "quanthost_my_npu")
    assert (plan.class_name, plan.runtime) == ("MyNpu", "MyNpuBackend")
    assert make_plan("my_npu", kind=Kind.PORTABLE, profile="gemmlowp").runtime == ""


@pytest.mark.parametrize("name", ["My", "1st", "class", "a" * 25, ""])
def test_names_that_are_refused(name: str) -> None:
    """Nothing is made of a name that no package can have."""
    with pytest.raises(RequestError, match="the backend name"):
        make_plan(name, kind=Kind.DELEGATE)


def test_an_unknown_profile_is_refused() -> None:
    """The error lists the profiles."""
    with pytest.raises(RequestError, match="the arithmetic profile 'gemm'") as caught:
        make_plan("npu", kind=Kind.DELEGATE, profile="gemm")
    assert "gemmlowp" in caught.value.needed
