"""Lets the reference show attrs records with their fields as a signature, and enums with their members."""

from __future__ import annotations

from typing import Any

import griffe

_INIT = "__init__"


class Values(griffe.Extension):
    """An extension of griffe, which reads the sources for mkdocstrings and knows neither attrs nor enums."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        decorators = [str(decorator.value).partition("(")[0] for decorator in cls.decorators]
        if _INIT not in cls.members and any(name in ("attrs.frozen", "attrs.define") for name in decorators):
            cls.set_member(_INIT, _made_init(cls, keywords="kw_only=True" in str(cls.decorators[0].value)))
        if any(str(base).endswith("Enum") for base in cls.bases) and cls.docstring is not None:
            cls.docstring.value += f"\n\nMembers: {', '.join(_members(cls))}."


def _members(cls: griffe.Class) -> list[str]:
    fields = [field for field in cls.attributes.values() if "property" not in field.labels]
    return [f"``{field.name}``" for field in fields if not field.name.startswith("_")]


def _made_init(cls: griffe.Class, *, keywords: bool) -> griffe.Function:
    kind = griffe.ParameterKind.keyword_only if keywords else griffe.ParameterKind.positional_or_keyword
    fields = [
        griffe.Parameter(field.name, annotation=field.annotation, kind=kind, default=_default(field))
        for field in cls.attributes.values()
        if field.annotation is not None and "property" not in field.labels and not field.name.startswith("_")
    ]
    itself = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
    return griffe.Function(_INIT, parameters=griffe.Parameters(itself, *fields), parent=cls)


def _default(field: griffe.Attribute) -> str | griffe.Expr | None:
    value = field.value
    if not (isinstance(value, griffe.ExprCall) and str(value.function) == "attrs.field"):
        return value
    given = {a.name: a.value for a in value.arguments if isinstance(a, griffe.ExprKeyword)}
    if "factory" in given:
        return f"{given['factory']}()"
    default = given.get("default")
    # computed from the other fields: the class says how
    return "..." if str(default).startswith("attrs.Factory") else default
