"""What app developers call to inspect a run: explanations, traces, and comparisons of bits and decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quanthost.exports import lazy_exports
from quanthost.toolchain.quiet import quiet_imports

if TYPE_CHECKING:
    from quanthost.debugging.bits import compare_bits as compare_bits
    from quanthost.debugging.differences import compare_decisions as compare_decisions
    from quanthost.host.inspecting import trace as trace
    from quanthost.host.inspecting import why as why
    from quanthost.host.snapshots import load_snapshot as load_snapshot
    from quanthost.host.snapshots import save_snapshot as save_snapshot
    from quanthost.host.snapshots import snapshot_decisions as snapshot_decisions
    from quanthost.report.trace_text import save_trace as save_trace
else:
    __getattr__, __dir__ = lazy_exports(__name__, importing=quiet_imports)
