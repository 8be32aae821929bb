"""The operators of the catalogue, each with its plain arguments."""

from __future__ import annotations

import torch

from quanthost.catalogue import CATALOGUE, Entry, module_of
from quanthost.graph.pattern import Op

__all__ = ["ENTRIES", "plain_call"]

ENTRIES = list(CATALOGUE.values())


def plain_call(entry: Entry) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """A module that calls the operator, and its inputs."""
    module = module_of(Op(names=(entry.name,)), entry.variation("plain"), {})
    return module, module.inputs
