"""``calibrate``: run real data through the observed graph, and refuse data that cannot give ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sized
from typing import Any

import torch
from torch import fx

from quanthost.arith.sketch import HUGE, ChannelRange, RangeSketch
from quanthost.errors import CalibrationError, InputError
from quanthost.graph.rewrite import origin
from quanthost.graph.signature import Signature
from quanthost.stages.progress import Progress, silent
from quanthost.stages.records import CalibratedModel, PreparedModel
from quanthost.toolchain.observers import RangeObserver
from quanthost.toolchain.pt2e import deep_copy
from quanthost.values import Kernel

__all__ = ["arguments", "calibrate", "needs_data"]


def needs_data(module: fx.GraphModule) -> list[str]:
    """Names of the tensors whose ranges must come from data, by node; constants and dynamic ones don't."""
    return list(dict.fromkeys(_observed_name(node) for node, _ in _static_observers(module)))


def calibrate(
    prepared: PreparedModel, batches: Iterable[Any] | None, progress: Progress | None = None
) -> CalibratedModel:
    """Observe every batch.

    A batch is a tensor, a tuple or list of positional arguments, or a mapping of arguments by name;
    shapes and dtypes are those of the captured signature. ``None`` is enough where the recipe needs no
    data.

    Raises:
        CalibrationError: no batch, NaN or Inf in a batch (with tensor and batch number) or in a tensor
            that is observed, numbers beyond ±1e30 in such a tensor, or one that no batch reached.
        InputError: a batch that is not what the model was captured with.
    """
    module = deep_copy(prepared.module)
    progress = progress if progress is not None else silent()
    if batches is None:
        _refuse_missing(module, prepared)
        with torch.no_grad():
            module(*prepared.captured.example_args, **prepared.captured.example_kwargs)
        return CalibratedModel(prepared=prepared, module=module, batches=0, data_digest="")
    digest = hashlib.sha256()
    total = len(batches) if isinstance(batches, Sized) else None
    count = 0
    sample = _Sample()
    with torch.no_grad():
        for count, batch in enumerate(batches, start=1):
            args, kwargs = arguments(batch, prepared.captured.signature, what=f"batch {count}")
            flat = _check(args, kwargs, count, prepared, digest)
            sample.offer(flat)
            module(*args, **kwargs)
            progress.batch(count, total)
    if count == 0:
        raise CalibrationError(
            "calibration data with no batch", needed="at least one batch", stage="calibrate",
            remedy="check that the loader is not empty, and that a generator was not already used up",
        )  # fmt: skip
    _check_ranges(module)
    return CalibratedModel(
        prepared=prepared, module=module, batches=count, data_digest=f"sha256:{digest.hexdigest()}",
        sample=tuple(sample.batches),
    )  # fmt: skip


class _Sample:
    """The first batches, as many as judge a network without slowing convert: 128, or a million values."""

    def __init__(self) -> None:
        self.batches: list[tuple[torch.Tensor, ...]] = []
        self._values = 0

    def offer(self, flat: list[Any]) -> None:
        size = sum(leaf.numel() for leaf in flat if isinstance(leaf, torch.Tensor))
        fits = len(self.batches) < 128 and (len(self.batches) < 2 or self._values + size <= 1_000_000)
        if fits and all(isinstance(leaf, torch.Tensor) for leaf in flat):
            self.batches.append(tuple(leaf.detach().clone() for leaf in flat))
            self._values += size


def _static_observers(module: fx.GraphModule) -> list[tuple[fx.Node, RangeObserver]]:
    found = []
    for node in module.graph.nodes:
        observer = getattr(module, str(node.target), None) if node.op == "call_module" else None
        if isinstance(observer, RangeObserver) and not observer.is_dynamic and not observer.once:
            found.append((node, observer))
    return found


def _observed_name(node: fx.Node) -> str:
    """The captured node that makes the tensor which an observer sees, so that an override can name it."""
    tensor = node.args[0]
    assert isinstance(tensor, fx.Node)
    return origin(tensor) or str(tensor.name)


def _refuse_missing(module: fx.GraphModule, prepared: PreparedModel) -> None:
    names = needs_data(module)
    if not names:
        return
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    recipes = prepared.plugins.info(prepared.request.backends[0]).recipes
    others = [recipe.name for recipe in recipes if recipe.kernel is not Kernel.STATIC]
    raise CalibrationError(
        "no calibration data", needed=f"batches for the static ranges of {shown}", stage="calibrate",
        remedy="pass batches of real inputs as calibration"
        + (f", or choose a recipe that needs none: {', '.join(others)}" if others else ""),
    )  # fmt: skip


def arguments(batch: Any, signature: Signature, *, what: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call that a batch stands for; ``what`` names it in the error.

    Raises:
        CalibrationError: it is no tensor, tuple, list or mapping.
    """
    if isinstance(batch, Mapping) and not signature.takes_mapping():
        named = dict(batch)
        return tuple(named.pop(name) for name in signature.parameters if name in batch), named
    if isinstance(batch, (tuple, list)):
        return tuple(batch), {}
    if isinstance(batch, (torch.Tensor, Mapping)):
        return (batch,), {}
    raise CalibrationError(
        f"{what} of type {type(batch).__name__}", stage="calibrate", value=batch,
        needed="a tensor, a tuple or list of arguments, or a mapping of arguments by name",
        remedy="convert it first, for example torch.from_numpy(batch)",
    )  # fmt: skip


def _check(
    args: tuple[Any, ...], kwargs: dict[str, Any], count: int, prepared: PreparedModel, digest: Any
) -> list[Any]:
    try:
        flat = prepared.captured.signature.flatten(args, kwargs)
    except InputError as error:
        extra = "; if the loader yields labels too, pass the inputs alone" if len(args) > 1 else ""
        raise InputError(
            f"batch {count}: {error.seen}", needed=error.needed, remedy=error.remedy + extra,
            where=error.where, stage="calibrate", value=error.value,
        ) from error  # fmt: skip
    for name, tensor in zip(prepared.captured.signature.names(), flat):
        if not isinstance(tensor, torch.Tensor):
            continue
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            kind = "NaN" if bool(torch.isnan(tensor).any()) else "Inf"
            raise CalibrationError(
                f"{kind} in the tensor {name!r} of batch {count}", needed="finite numbers",
                stage="calibrate", value=tensor,
                remedy="clean the data, or leave this batch out; an additive mask may hold"
                " torch.finfo(dtype).min in place of -inf",
            )  # fmt: skip
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return flat


def _check_ranges(module: fx.GraphModule) -> None:
    for node, observer in _static_observers(module):
        name = _observed_name(node)
        seen, nan, beyond = _tally(observer.statistics)
        if seen == 0:
            raise CalibrationError(
                f"no batch reached {name}", needed="data for each observed tensor", stage="calibrate",
                node=name, remedy="add batches that take this path, or keep the node in float",
            )  # fmt: skip
        if nan:
            raise CalibrationError(
                f"{name} became NaN {nan} times while observed",
                needed="finite numbers in each observed tensor", stage="calibrate", node=name,
                remedy="find the operator that makes NaN of these inputs, or keep the node in float",
            )  # fmt: skip
        if beyond:
            raise CalibrationError(
                f"{name} was infinite or beyond ±{HUGE:g} {beyond} times while observed",
                needed="a range that the integers can resolve", stage="calibrate", node=name,
                remedy="if it holds a mask, keep the operators that make and take it in float by overrides;"
                " else find the operator that overflows",
            )  # fmt: skip


def _tally(statistics: RangeSketch | ChannelRange) -> tuple[int, int, int]:
    """How much was observed, how often it was NaN, and how often infinite or a mask's sentinel."""
    if isinstance(statistics, ChannelRange):
        return statistics.minimum.numel(), 0, statistics.excluded
    return statistics.count, statistics.nan, statistics.count - statistics.nan - statistics.ordinary
