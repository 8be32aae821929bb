"""What was typed and what stands in a file become one set of settings, or a refusal that helps."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from quanthost.cli.settings import (
    Report,
    merge,
    parse_options,
    parse_override,
    read_config,
    require,
)
from quanthost.cli.usage import UsageError
from quanthost.values import (
    DType,
    Granularity,
    Io,
    Objective,
    Override,
    Placement,
    QSpec,
    Representation,
    Symmetry,
    Toolchain,
)

_CONFIG = """
[quantize]
model = "nets.py:build"
backend = ["npu", "cpu"]
recipe = "int8_static"
calibration = "data"
output = "out/net.pte"
report = "none"
force = true
set = { cores = 0, fast = false, mode = "x", ratio = 0.5 }

[[override]]
module_name = "head.*"
keep_float = true

[[override]]
operator = "aten.linear"
weight = { dtype = "int8", granularity = "per_channel", axis = 0, symmetry = "symmetric" }
"""


def _stored(folder: Path, text: str) -> Path:
    path = folder / "quant.toml"
    path.write_text(text)
    return path


def test_a_file_says_all_that_options_say(tmp_path: Path) -> None:
    """Each key arrives with its type; an explicit 0 and False are kept."""
    settings = read_config(_stored(tmp_path, _CONFIG))
    assert (settings["backend"], settings["recipe"], settings["report"], settings["force"]) == (
        ["npu", "cpu"], "int8_static", Report.NONE, True,
    )  # fmt: skip
    assert settings["set"] == {"cores": 0, "fast": False, "mode": "x", "ratio": 0.5}
    assert settings["set"]["fast"] is False
    keep, spec = settings["override"]
    assert keep == Override(module_name="head.*", keep_float=True)
    assert spec.weight == QSpec(
        dtype=DType.INT8, granularity=Granularity.PER_CHANNEL, axis=0, symmetry=Symmetry.SYMMETRIC
    )


def test_paths_of_a_file_are_relative_to_it(tmp_path: Path) -> None:
    """Files and references to files, but not modules by name."""
    settings = read_config(_stored(tmp_path, _CONFIG))
    assert settings["output"] == tmp_path / "out/net.pte"
    assert settings["model"] == f"{tmp_path}{os.sep}nets.py:build"
    assert settings["calibration"] == str(tmp_path / "data")
    text = '[quantize]\nmodel = "zoo.nets:build"\ncalibration = "zoo.data:batches"\noutput = "/abs/a.pte"\n'
    stored = read_config(_stored(tmp_path, text))
    assert (stored["model"], stored["calibration"]) == ("zoo.nets:build", "zoo.data:batches")
    assert stored["output"] == Path("/abs/a.pte")


def test_what_is_typed_wins(tmp_path: Path) -> None:
    """Typed values replace stored ones, options of the backend one by one; what is not typed stays."""
    typed = {"recipe": "fp32", "backend": ["dsp"], "set": {"cores": 4}, "force": None, "report": None}
    settings = merge(typed, read_config(_stored(tmp_path, _CONFIG)))
    assert (settings["recipe"], settings["backend"], settings["force"]) == ("fp32", ["dsp"], True)
    assert settings["report"] is Report.NONE
    assert settings["set"] == {"cores": 4, "fast": False, "mode": "x", "ratio": 0.5}
    # an explicit no is typed too
    assert merge({"cache": False}, {"cache": True})["cache"] is False


def test_typed_overrides_match_before_stored_ones(tmp_path: Path) -> None:
    """First match wins, so the typed rule has to come first; the stored ones stay behind it."""
    rule = parse_override("node=conv,recipe=int8_dynamic")
    settings = merge({"override": [rule]}, read_config(_stored(tmp_path, _CONFIG)))
    assert [override.node for override in settings["override"]] == ["conv", None, None]


def test_choices_are_members(tmp_path: Path) -> None:
    """Of the file and of the line alike; the error names the place, the choices and the nearest."""
    members = {
        "placement": Placement.ALL, "optimize_for": Objective.LATENCY, "toolchain": Toolchain.UPSTREAM,
        "representation": Representation.INTEGER, "io": Io.UINT8, "report": Report.JSON,
    }  # fmt: skip
    texts = {key: member.value for key, member in members.items()}
    lines = "".join(f"{key} = {text!r}\n" for key, text in texts.items())
    assert read_config(_stored(tmp_path, f"[quantize]\n{lines}")) == merge(texts, {}) == members
    with pytest.raises(UsageError, match=r"io='int'\n.*int8, uint8, int16\n  where:  --io\n.*write int8"):
        merge({"io": "int"}, {})
    with pytest.raises(UsageError, match=r"optimize_for='speed'\n.*\n  where:  --optimize-for"):
        merge({"optimize_for": "speed"}, {})


@pytest.mark.parametrize(
    ("missing", "option"), [("model", "MODEL"), ("backend", "--backend"), ("output", "--output")]
)
def test_required_settings(missing: str, option: str) -> None:
    """The error names both places where the setting can stand."""
    settings = merge({"model": "m:f", "backend": ["npu"], "output": Path("a.pte"), missing: None}, {})
    with pytest.raises(UsageError, match=rf"no {missing}\n.*\n.*\n.*{option}, or write {missing} into"):
        require(settings, model="MODEL", backend="--backend", output="--output")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[quantise]\n", r"the key 'quantise'\n  needed: one of quantize, override\n.*\n.*write quantize"),
        ('[quantize]\nrecepy = "x"\n', r"the key 'recepy'\n.*\n  where:  \[quantize\] .*\n.*write recipe"),
        ("[[override]]\nmodul_name = 1\n", r"the key 'modul_name'\n.*\n.*number 1 of .*\n.*write module_n"),
        ("[quantize]\nforce = 1\n", r"force = 1\n  needed: true or false"),
        ("[quantize]\nbackend = [1]\n", r"backend = 1\n  needed: a string"),
        ("[quantize]\nrecipe = true\n", r"recipe = True\n  needed: a string"),
        ("[quantize]\nset = { a = [1] }\n", r"set.a = \[1\]\n  needed: a string or an integer or a number"),
        ('[quantize]\nreport = "xml"\n', r"report='xml'\n  needed: one of table, json, none"),
        ("quantize = 3\n", r"quantize = 3\n  needed: a table"),
        ("[override]\n", r"override = \{\}\n  needed: a list"),
        ("override = [1]\n", r"override = 1\n  needed: a table"),
        ("[quantize\n", r"quant.toml: .*line 1.*\n  needed: TOML"),
        ("[[override]]\nnode = 'a'\n", r"an override with no actions(.*\n)*  where:  .*number 1 of"),
        ("[[override]]\nnode = 'a'\nweight = { dtype = 'int9' }\n", r"one of int4, int8, .*\$\.weight"),
    ],
    ids=[
        "table", "key", "override key", "truth", "list item", "kind", "option", "report", "no table",
        "no list", "no rule", "syntax", "action", "qspec",
    ],
)  # fmt: skip
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, said: str) -> None:
    """Each says what stands there, where, and what could."""
    with pytest.raises(UsageError, match=said) as raised:
        read_config(_stored(tmp_path, text))
    assert "quant.toml" in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(UsageError, match=r"nix\.toml: No such file or directory\n"):
        read_config(tmp_path / "nix.toml")


def test_override_of_one_line() -> None:
    """All fields but qspecs, blanks around them allowed."""
    assert parse_override("module_type=Linear, operator=aten.linear ,recipe=int8_dynamic") == Override(
        module_type="Linear", operator="aten.linear", recipe="int8_dynamic"
    )
    assert parse_override("node=conv,keep_float=true").keep_float is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "modul_name=x,keep_float=true",
            r"the key 'modul_name'\n.*\n.*--override.*\n  to do:  write module_name",
        ),
        ("weight=int8,node=a", r"the key 'weight'\n  needed: one of module_name, .*keep_float\n"),
        ("head.*", r"'head\.\*'\n  needed: name=value"),
        ("node=a,keep_float=yes", r"keep_float=yes\n  needed: true or false"),
        ("node=a", r"an override with no actions\n(.*\n)*  where:  --override 'node=a'"),
        ("module=lat", r"the key 'module'\n.*\n.*\n  to do:  write module_name"),
        (
            "module_name=lat keep_float=true",
            r"a space in 'lat keep_float=true'\n  needed: fields separated by commas\n.*\n"
            r"  to do:  write module_name=lat,keep_float=true",
        ),
        ("node=my conv,keep_float=true", r"a space in 'my conv'\n.*\n.*\n  to do:  remove the space"),
        ("keep_float=true", "an override that selects nothing"),
    ],
)
def test_mistakes_in_an_override_are_named(text: str, said: str) -> None:
    """The whole option is repeated as the place."""
    with pytest.raises(UsageError, match=said):
        parse_override(text)


def test_options_have_the_type_that_they_look_like() -> None:
    """Truth values, integers and numbers; everything else, also what is no finite number, is a string."""
    texts = ["a=true", "b=0", "c=-1.5", "d=1e3", "e=nan", "f=x=y", "g=True", "h="]
    found = parse_options(texts)
    expected = {
        "a": True, "b": 0, "c": -1.5, "d": 1000.0, "e": "nan", "f": "x=y", "g": "True", "h": "",
    }  # fmt: skip
    assert {key: (type(value), value) for key, value in found.items()} == {
        key: (type(value), value) for key, value in expected.items()
    }


def test_an_option_needs_a_value() -> None:
    """A name alone could mean many things."""
    with pytest.raises(UsageError, match=re.escape("'fast'\n  needed: name=value\n  where:  --set 'fast'")):
        parse_options(["fast"])
