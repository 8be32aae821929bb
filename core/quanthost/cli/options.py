"""The options that commands share, and the target that they make of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from quanthost.host.policy import Policy
    from quanthost.host.target import Target

__all__ = [
    "ALLOWED",
    "Arithmetic",
    "BackendName",
    "Calibration",
    "DynamicShapes",
    "Force",
    "Help",
    "Inputs",
    "Json",
    "Model",
    "ModelOrConfig",
    "Options",
    "TargetOptions",
    "ToolchainName",
    "policy_of",
    "takes_target",
]

ALLOWED = "--backends-allowed"


def _print_help(context: typer.Context, is_set: bool) -> None:
    if is_set:
        typer.echo(context.get_help())
        raise typer.Exit


_Texts = list[str] | None
# typer's own help option loads its validation library, which takes as long as the whole listing
Help = Annotated[
    bool,
    typer.Option("--help", "-h", is_eager=True, callback=_print_help, help="Show this message and exit."),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout and nothing else.")]
Force = Annotated[bool | None, typer.Option("--force", help="Replace output files that exist.")]
_MODEL = typer.Argument(
    metavar="MODULE:CALLABLE",
    help="Function that returns the model, or the model and its example inputs; MODULE is a dotted name or"
    " the path of a .py file.",
)
Model = Annotated[str, _MODEL]
ModelOrConfig = Annotated[str | None, _MODEL]
BackendName = Annotated[str, typer.Argument(metavar="BACKEND", help="A name that 'backends' lists.")]
Inputs = Annotated[
    str | None,
    typer.Option(metavar="MODULE:CALLABLE", help="Function that returns the example inputs."),
]
DynamicShapes = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:CALLABLE",
        help="Function that returns the sizes that vary, as torch.export takes them.",
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration", "-c", metavar="MODULE:CALLABLE|FILE|DIR",
        help="Function that returns batches; or .npz or .safetensors files, named as the inputs.",
    ),
]  # fmt: skip
Arithmetic = Annotated[
    str | None,
    typer.Option(metavar="PROFILE", help="How integers are rescaled. [default: the backend's own]"),
]
Options = Annotated[_Texts, typer.Option("--set", metavar="OPTION=VALUE", help="Option of the backend.")]
ToolchainName = Annotated[
    str | None,
    typer.Option(
        "--toolchain", metavar="fast|upstream",
        help="Replace slow functions of ExecuTorch, or run its own? [default: fast]",
    ),
]  # fmt: skip


# a named tuple: help is shown without attrs
class TargetOptions(NamedTuple):
    """What the shared options say: the target, and the configuration file for a command's own options."""

    target: Target
    stored: Mapping[str, Any]

    def settings(self, **typed: Any) -> dict[str, Any]:
        """A command's own options over those of the configuration file; unset ones are left out."""
        from quanthost.cli.settings import merge

        return merge(typed, self.stored)


def policy_of(context: typer.Context) -> Policy:
    """Which backends may be imported."""
    from quanthost.host.policy import Policy

    return Policy.of(context.obj[ALLOWED])


def _target_options(
    context: typer.Context,
    backend: Annotated[
        _Texts, typer.Option("--backend", "-b", help="Repeat it in order of priority.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="The backend's first recipe unless given.")
    ] = None,
    override: Annotated[
        _Texts,
        typer.Option(
            metavar="FIELD=VALUE,…",
            help="Rule for some nodes, as 'module_name=head.*,keep_float=true'. Repeat it; the first"
            " that matches a node wins.",
        ),
    ] = None,
    set_: Options = None,
    placement: Annotated[
        str | None,
        typer.Option(metavar="cost|all", help="Quantize what gains nothing by itself? [default: cost]"),
    ] = None,
    optimize_for: Annotated[
        str | None,
        typer.Option(
            metavar="accuracy|latency", help="What int8 is for; needs 'measure'. [default: accuracy]"
        ),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="What 'measure' wrote, for latency. [default: its own]"),
    ] = None,
    toolchain: ToolchainName = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="The same settings in [quantize] and [[override]] tables."),
    ] = None,
) -> TargetOptions:
    """The options of every command that takes a model and a backend: this signature is their only list."""
    from quanthost.cli import settings
    from quanthost.host.target import Target

    stored = {} if config is None else settings.read_config(config)
    merged = settings.merge(
        {
            "backend": backend, "recipe": recipe, "placement": placement, "optimize_for": optimize_for,
            "costs": costs, "toolchain": toolchain,
            "override": [settings.parse_override(text) for text in override or ()],
            "set": settings.parse_options(set_ or ()),
        },
        stored,
    )  # fmt: skip
    settings.require(merged, backend="--backend")
    fields = {settings.FIELDS.get(key, key): value for key, value in merged.items()}
    # late: help is shown without attrs
    import attrs

    arguments = {name: fields[name] for name in attrs.fields_dict(Target) if name in fields}
    return TargetOptions(target=Target(**arguments, policy=policy_of(context)), stored=stored)


def takes_target(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options in place of its parameter of the type ``TargetOptions``."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    shared = inspect.signature(_target_options, eval_str=True).parameters
    (taking,) = (parameter.name for parameter in own if parameter.annotation is TargetOptions)
    parameters = [*shared.values(), *(parameter for parameter in own if parameter.name != taking)]

    @functools.wraps(command)
    def call(**values: Any) -> None:
        options = _target_options(**{name: values.pop(name) for name in shared})
        command(**{taking: options}, **values)

    by_name = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    call.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]  # typer reads it
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
