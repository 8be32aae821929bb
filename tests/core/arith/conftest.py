"""One thread and the same examples in every run, so that nothing depends on the machine's load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("arith", derandomize=True, deadline=None)
settings.load_profile("arith")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small operators take longer to start threads than to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
