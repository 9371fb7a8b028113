"""Reading `watchkeeper.yaml`: strictly, and with the line of every mistake; and what differs between two of them.

YAML is read as its version 1.2 has it, where only `true` and `false` are booleans: a column called `no` or `on`
keeps its name, and so does one called 2013. A key that is written twice in one place is refused; anchors, aliases
and `<<` work.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

import watchkeeper.channels.built_in  # noqa: F401  importing it fills the registry of channels
from watchkeeper import channels, monitors
from watchkeeper.errors import ConfigError, did_you_mean
from watchkeeper.metrics import METRICS
from watchkeeper.schema import Config, ModelConfig
from watchkeeper.windows import DURATION, show_duration

Key = str | int
Place = tuple[Key, ...]
"""Where in a configuration something stands, outermost key first."""

PLAIN = {"str", "int", "float", "bool", "null", "seq", "map"}
"""The kinds of value, in YAML's own words, that a setting can have."""
MOST_NODES = 100_000
"""A file that its aliases blow up beyond this many values is refused."""


def load(path: Path) -> Config:
    """The configuration in this file.

    Raises ConfigError where there is no such file, where it is no text, and for every mistake that `loads` finds.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the YAML file in it")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {path}; check the path, or write one") from None
    except OSError as problem:
        raise ConfigError(f"{path} cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        line = problem.object[: problem.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8 text; save the file as UTF-8") from problem
    return loads(text, str(path))


def loads(text: str, name: str = "watchkeeper.yaml") -> Config:
    """The configuration in this text.

    Args:
        name: what messages call the file.

    Raises ConfigError with one line for each mistake, `file:line: where: what is wrong`; its `path` is the first
    one's. Environment variables that channels ask for need not be set: a file is right or wrong by itself.
    """
    document = _read(text, name)
    try:
        # as JSON, since there a list may become a tuple though types are strict
        config = Config.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as problem:
        mistakes = [*_mistakes(problem.errors(include_url=False), document)]
    else:
        mistakes = [*_unplannable(config), *_unbuildable(config)]
        if not config.models:
            mistakes.append(Mistake(("models",), "there must be at least one model"))
        if not mistakes:
            return config
    placed = sorted({(document.line(m.place), _where(m, document), m.text): m for m in mistakes}.items())
    raise ConfigError(
        "\n".join(f"{name}:{line}: {where}{text}" for (line, where, text), _ in placed), placed[0][1].place
    )


# From text to plain values with their lines


@dataclass
class Document:
    """Plain values, and the line that each stands on (its key's, for a mapping or a list)."""

    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """The line of this place, or of the nearest one around it that is there."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: no sexagesimals, no dates, no `yes`."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own shape


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _read(text: str, name: str) -> Document:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = mark.line + 1 if mark else 1
        said = (problem.problem or problem.context or "it cannot be read").removeprefix("but ")
        said = said.replace("character '\\t'", "a tab")
        raise ConfigError(f"{name}:{line}: this is not YAML: {said}") from problem
    except yaml.reader.ReaderError as problem:
        line = text[: problem.position].count("\n") + 1
        raise ConfigError(f"{name}:{line}: there is a character that YAML does not allow; delete it") from problem
    if node is None:
        raise ConfigError(f'{name}:1: the file is empty; it needs "models:" with at least one model')
    document = Document(lines={(): node.start_mark.line + 1})
    try:
        document.value = _Builder(loader, name, document.lines).build(node, ())
    finally:
        loader.dispose()
    if not isinstance(document.value, dict):
        raise ConfigError(
            f'{name}:{document.lines[()]}: the file must hold keys such as "models:", found {_shown(node)}'
        )
    return document


def _shown(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else f'"{node.value}"'


class _Builder:
    """Values from nodes; fills `lines` on the way."""

    def __init__(self, loader: _Loader, name: str, lines: dict[Place, int]) -> None:
        self._loader, self._name, self._lines = loader, name, lines
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node, place: Place) -> Any:
        self._count += 1
        if id(node) in self._open or self._count > MOST_NODES:
            raise self._wrong(node, "an anchor holds itself, or the aliases blow the file up; write the values out")
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind not in PLAIN:
            raise self._wrong(node, f'the tag "{kind}" is not for settings; write plain values')
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self._item(item, (*place, i)) for i, item in enumerate(node.value)]
            return self._mapping(node, place)
        finally:
            self._open.discard(id(node))

    def _item(self, node: yaml.Node, place: Place) -> Any:
        self._lines[place] = node.start_mark.line + 1
        return self.build(node, place)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            if node.tag == "tag:yaml.org,2002:int":  # the loader's own reads 010 as eight
                value = int(node.value, 0 if node.value[:2] in ("0x", "0o") else 10)
            else:
                value = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            raise self._wrong(node, f'"{node.value}" cannot be read as {node.tag.rpartition(":")[2]}') from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self._wrong(node, f"a setting must be a finite number, found {node.value}")
        return value

    def _mapping(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for source in sources:
                    if not isinstance(source, yaml.MappingNode):
                        raise self._wrong(key_node, '"<<" takes an alias of a mapping, such as <<: *defaults')
                    merged = self.build(source, place) | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._wrong(key_node, "a key must be a single word or text")
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in first:
                raise self._wrong(key_node, f'"{key}" stands here twice, first in line {first[key]}; keep one')
            first[key] = line
            inner = (*place, key)
            scalar = isinstance(value_node, yaml.ScalarNode) and value_node.value
            own[key] = self.build(value_node, inner)
            self._lines[inner] = value_node.start_mark.line + 1 if scalar else line
        return merged | own

    def _wrong(self, node: yaml.Node, text: str) -> ConfigError:
        return ConfigError(f"{self._name}:{node.start_mark.line + 1}: {text}")


# From what is wrong to what to say


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at a place. `within` is what the message names as its surroundings, where that is not the place."""

    place: Place
    text: str
    within: Place | None = None


def _unplannable(config: Config) -> Iterator[Mistake]:
    """Monitors whose metric or columns cannot be meant: each is planned alone, so that each is heard."""
    for name, model in config.models.items():
        if model.monitors is None:
            continue
        for i, monitor in enumerate(model.monitors):
            try:
                monitors.plan(model.model_copy(update={"monitors": (monitor,)}))
            except ConfigError as problem:
                place = ("models", name, "monitors", i, *problem.path[2:])
                yield Mistake(place, str(problem.__cause__ or problem), ("models", name, "monitors"))


class _AnyVariable(dict[str, str]):
    """An environment that has every variable; the address serves where an address is asked for."""

    def get(self, name: str, default: object = None) -> str:
        return "https://example.invalid"


def _unbuildable(config: Config) -> Iterator[Mistake]:
    for name, channel in config.channels.items():
        try:
            channels.build(config.model_copy(update={"channels": {name: channel}}), _AnyVariable())
        except ConfigError as problem:
            yield Mistake(problem.path, str(problem), ())


def _mistakes(errors: Iterable[ErrorDetails], document: Document) -> Iterator[Mistake]:
    """Pydantic's errors as ours; those of the arms of one union become one."""
    found: dict[Place, list[ErrorDetails]] = {}
    for error in errors:
        place = _in_document(tuple(error["loc"]), document.value, error["type"] in ("extra_forbidden", "missing"))
        found.setdefault(place, []).append(error)
    for place, group in found.items():
        problem = group[0].get("ctx", {}).get("error")
        inner = problem.path if isinstance(problem, ConfigError) else ()
        around = place[:-1] if group[0]["type"] in ("missing", "extra_forbidden") else None
        yield Mistake((*place, *inner), _explained(place, group), around)


def _in_document(place: Place, value: Any, of_key: bool) -> Place:
    """Of where Pydantic saw an error, what is there in the document: the arms of unions are not.

    Args:
        of_key: whether the error is that of its last key, which need not be there.
    """
    found: list[str | int] = []
    for i, key in enumerate(place):
        if isinstance(value, list):
            value = dict(enumerate(value))
        if isinstance(value, dict) and key in value:
            value = value[key]
            found.append(key)
        elif of_key and i == len(place) - 1:
            found.append(key)
    return tuple(found)


_KINDS = {
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list, such as [a, b]",
    "dict_type": "a mapping of names to settings",
    "model_type": "a mapping of settings",
    "model_attributes_type": "a mapping of settings",
    "time_delta_type": "a duration, such as 15m, 1h, 7d or 2w",
}


def _explained(place: Place, group: list[ErrorDetails]) -> str:
    """What is wrong at one place, from pydantic's errors there: one, or one for each arm of a union."""
    error = group[0]
    match error["type"]:
        case "extra_forbidden":
            return f'there is no setting "{place[-1]}" here; {did_you_mean(str(place[-1]), _settings(place[:-1]))}'
        case "missing":
            return f'"{place[-1]}" is missing; add it'
        case "value_error":
            return str(error.get("ctx", {})["error"])
    wanted = list(dict.fromkeys(_wanted(e) for e in group))
    near = difflib.get_close_matches(str(error["input"]), re.findall(r'"([^"]*)"', " ".join(wanted)), n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f"must {' or '.join(wanted).replace(' or be ', ' or ')}, found {_found(error['input'])}{hint}"


def _wanted(error: ErrorDetails) -> str:
    """What a value must do or be, to follow the word "must"."""
    context = error.get("ctx", {})
    match error["type"]:
        case "literal_error" | "enum":
            return "be " + str(context["expected"]).replace("'", '"')
        case "too_short" | "string_too_short":
            return "not be empty"
        case "string_pattern_mismatch":
            return 'look like "package.module:function"'
        case kind if kind in _KINDS:
            return f"be {_KINDS[kind]}"
    return error["msg"].removeprefix("Input should ")


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _settings(place: Place) -> list[str]:
    """The names of the settings that can stand at this place."""
    kinds: list[Any] = [Config]
    for key in place:
        kinds = [inner for kind in kinds for inner in _inside(kind, key)]
    return [name for kind in kinds for arm in _arms(kind) if _is_model(arm) for name in arm.model_fields]


def _inside(kind: Any, key: Key) -> Iterator[Any]:
    """The types of what can stand under this key in a value of type `kind`."""
    for arm in _arms(kind):
        origin, inner = get_origin(arm), get_args(arm)
        if _is_model(arm) and key in arm.model_fields:
            yield arm.model_fields[key].annotation
        elif origin is dict:
            yield inner[1]
        elif origin is tuple:
            yield inner[0]


def _arms(kind: Any) -> Iterator[Any]:
    """The types that a union or an annotated type is made of; any other type itself."""
    if get_origin(kind) in (Union, UnionType):
        for arm in get_args(kind):
            yield from _arms(arm)
    elif get_origin(kind) is Annotated:
        yield from _arms(get_args(kind)[0])
    else:
        yield kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _where(mistake: Mistake, document: Document) -> str:
    """The settings around a mistake, as in `monitors: `; the model is named where there are several."""
    place = mistake.place if mistake.within is None else mistake.within
    names = [str(key) for key in place if isinstance(key, str)]
    alone = names[:1] == ["models"] and len(document.value.get("models") or ()) == 1
    if alone and (len(names) > 2 or mistake.within is not None):
        names = names[2:]
    return f"{'.'.join(names)}: " if names else ""


def only_model(config: Config, name: str) -> tuple[str, ModelConfig]:
    """The one model of a configuration, where just one can be meant.

    Args:
        name: the file, for the message.

    Raises ConfigError if there are several.
    """
    if len(config.models) != 1:
        raise ConfigError(
            f"{name} has {len(config.models)} models ({', '.join(config.models)}) and one is needed here;"
            " keep that one in a file of its own",
            ("models",),
        )
    return next(iter(config.models.items()))


# What differs


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that differs between two configurations: `what` is added, removed or changed."""

    place: str
    what: str
    old: Any
    new: Any

    @property
    def sentence(self) -> str:
        old, new = (json.dumps(value, ensure_ascii=False) for value in (self.old, self.new))
        if self.what == "changed":
            return f"{self.place}: {old} becomes {new}"
        return f"{self.place}: {self.what}, {new if self.what == 'added' else old}"


def changes(old: Any, new: Any, place: str = "") -> list[Change]:
    """What differs between two configurations, as `Config.model_dump(mode="json")` gives them, in their order.

    Lists of settings that have names, such as monitors, are compared by these, and so are not upset by an insertion.
    """
    old, new = _by_name(old), _by_name(new)
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [Change(place, "changed", old, new)]
    found: list[Change] = []
    for key in dict.fromkeys([*old, *new]):
        inner = f"{place}.{key}" if place else str(key)
        if key not in new:
            found.append(Change(inner, "removed", old[key], None))
        elif key not in old:
            found.append(Change(inner, "added", None, new[key]))
        else:
            found += changes(old[key], new[key], inner)
    return found


def _by_name(value: Any) -> Any:
    """A list of settings with names of their own as a mapping; anything else as it is."""
    if not isinstance(value, list) or not all(isinstance(one, dict) and "name" in one for one in value):
        return value
    names = [one["name"] for one in value]
    return dict(zip(names, value, strict=True)) if value and len({*names}) == len(names) else value


# For editors


class _ForEditors(GenerateJsonSchema):
    """Settings as they are written in YAML."""

    def timedelta_schema(self, schema: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{DURATION}$", "examples": ["15m", "1h", "7d", "2w"]}

    def encode_default(self, dft: Any) -> Any:
        return show_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a configuration. It knows less than `loads` does: not what must fit
    together."""
    found = Config.model_json_schema(schema_generator=_ForEditors)
    settings = found["$defs"]
    settings["MonitorConfig"]["properties"]["metric"] = {"anyOf": [{"enum": sorted(METRICS)}, {"type": "string"}]}
    settings["ChannelConfig"]["properties"]["type"] = {"enum": sorted(channels.CHANNELS)}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "watchkeeper.yaml"}
