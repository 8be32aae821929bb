"""New attribute names are those that torchao would find, without a search from zero."""

from __future__ import annotations

import importlib

import pytest
from torch import nn

from quanthost.toolchain.fast.naming import counted_names

USERS = ("torch.ao.quantization.fx.prepare", "torchao.quantization.pt2e.utils")


@pytest.mark.parametrize("user", USERS)
def test_names_are_torchaos(user: str) -> None:
    """Gaps are filled first, a name that was not taken is given again, prefixes do not mix."""
    module = importlib.import_module(user)
    made: list[list[str]] = []
    for counted in (False, True):
        holder, names = nn.Module(), []
        holder.part_1 = nn.Identity()

        def ask(holder: nn.Module, names: list[str], prefix: str, *, take: bool) -> None:
            name = module.get_new_attr_name_with_prefix(prefix)(holder)
            names.append(name)
            if take:
                setattr(holder, name, nn.Identity())

        def all_of_them(holder: nn.Module, names: list[str]) -> None:
            for prefix, take in (
                ("part_", True),
                ("part_", True),
                ("part_", False),
                ("part_", True),
                ("a.b", True),
            ):
                ask(holder, names, prefix, take=take)

        if counted:
            with counted_names():
                all_of_them(holder, names)
        else:
            all_of_them(holder, names)
        made.append(names)
    assert made[0] == made[1] == ["part_0", "part_2", "part_3", "part_3", "a_b0"]
