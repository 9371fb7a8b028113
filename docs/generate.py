"""Write the reference pages from the code, so that they are never typed by hand.

python docs/generate.py            write docs/reference/*.md
python docs/generate.py --check    write nothing; exit 1 and name the pages that are stale
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main
from fastapi.routing import APIRoute
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import watchkeeper.monitors
import watchkeeper.notify  # noqa: F401  importing these fills the registries of metrics and channels
from watchkeeper.channels import CHANNELS, ChannelType
from watchkeeper.cli import app
from watchkeeper.metrics import METRICS, Metric, every
from watchkeeper.schema import Ago, Config, Task
from watchkeeper.server.app import ROUTERS
from watchkeeper.settings import Size
from watchkeeper.windows import show_duration

PAGES = Path(__file__).parent / "reference"
HEAD = "<!-- Written by docs/generate.py from the code. Change the code, then run it again. -->\n\n"


# The command line


def cli() -> str:
    return "# Commands\n\n" + "\n".join(_commands(typer.main.get_command(app), "watchkeeper"))


def _commands(command: Any, name: str) -> Iterator[str]:
    """A section for a command and one for each of its own. Typer's command classes moved between releases, so
    they are known here by their attributes alone."""
    shown = [p for p in command.params if not getattr(p, "hidden", False)]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    options = [p for p in shown if p.param_type_name == "option"]
    below = {n: c for n, c in sorted(getattr(command, "commands", {}).items()) if not c.hidden}
    usage = [name, *(["[OPTIONS]"] if options else []), *map(_argument, arguments), *(["COMMAND ..."] if below else [])]
    yield f"## {name}\n\n```text\n{' '.join(usage)}\n```\n"
    if command.help:
        yield f"{inspect.cleandoc(command.help)}\n"
    if arguments:
        rows = [(f"`{_argument(p)}`", _help(p), _default(p)) for p in arguments]
        yield _table(("Argument", "Meaning", "Default"), rows)
    if options:
        rows = [(_flags(p), _help(p), _default(p)) for p in options]
        yield _table(("Option", "Meaning", "Default"), rows)
    if below:
        yield _table(("Command", "Meaning"), [(f"`{name} {n}`", _first_line(c.help)) for n, c in below.items()])
    for child, inner in below.items():
        yield from _commands(inner, f"{name} {child}")


def _argument(parameter: Any) -> str:
    text = (parameter.metavar or parameter.name.upper()) + (" ..." if parameter.nargs == -1 else "")
    return text if parameter.required else f"[{text}]"


def _flags(option: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])


def _help(parameter: Any) -> str:
    text = " ".join((getattr(parameter, "help", None) or "").split())
    return f"{text} (also `{parameter.envvar}`)" if parameter.envvar else text


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default() if callable(parameter.default) else parameter.default
    if value is True:
        return f"`{parameter.opts[0]}`"
    if value is None or value is False or value in ("", (), []):
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


# Metrics


def metrics() -> str:
    parts = [
        "# Metrics\n",
        "A metric is a pure function of a profile, or of two. A monitor names one of these and states a limit; a"
        " breach opens an incident of the metric's cause.\n",
    ]
    for cause in dict.fromkeys(m.cause for m in every()):
        parts.append(f"## {cause.capitalize()}\n")
        parts += [_metric(m) for m in every() if m.cause == cause]
    return "\n".join(parts)


def _metric(metric: Metric) -> str:
    on = f"`{metric.column}`" if metric.column else f"{_either(sorted(metric.kinds))} columns"
    on = on if metric.kpi is None else "the model's `kpis`, or those that `columns` names"
    only = _either(sorted(metric.tasks)) if metric.tasks < {*Task} else ""
    name = metric.name if METRICS[metric.name] is metric else f"{metric.name} ({only})"
    facts = [
        *([("Models", only)] if only else []),
        ("Taken on", on),
        ("Baseline", _needed(metric)),
        ("Labels", "needed" if metric.labels else "not needed"),
        ("Unit", metric.unit or ("none" if metric.kpi is None else "that of the KPI")),
    ]
    return (
        f"### {name}\n\n**{metric.title[0].upper()}{metric.title[1:]}.**"
        f" {inspect.cleandoc(metric.compute.__doc__ or '')}\n\n"
        + "\n".join(f"- {what}: {value}" for what, value in facts)
        + "\n"
    )


def _needed(metric: Metric) -> str:
    if metric.baseline_labels:
        return "needed, with labels"
    return "needed" if metric.needs_baseline else "needed by a relative limit only"


# Configuration


def configuration() -> str:
    parts = [
        "# Configuration\n",
        "`watchkeeper.yaml` holds one map. Unknown keys, wrong types and combinations that cannot be meant are"
        " refused, with the file and the line. A duration is a whole number and a unit: `90s`, `15m`, `1h`, `7d`,"
        " `2w`.\n",
    ]
    parts += [_section(model, path) for model, path in _sections(Config, "").items()]
    parts += [_channel(kind) for _, kind in sorted(CHANNELS.items())]
    return "\n".join(parts)


def _channel(kind: ChannelType) -> str:
    return _section(kind.settings, f"channels.NAME` of type `{kind.name}", inspect.getdoc(kind.make) or "")


def _sections(model: type[BaseModel], path: str) -> dict[type[BaseModel], str]:
    """Every model that can be reached, outermost first, with the keys that lead to it."""
    found = {model: path}
    for name, field in model.model_fields.items():
        for inner, suffix in _models(field.annotation):
            found |= {m: p for m, p in _sections(inner, f"{path}.{name}{suffix}".lstrip(".")).items() if m not in found}
    return found


def _models(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation, ""
    suffix = {dict: ".NAME", tuple: "[]", list: "[]"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        yield from ((model, suffix + rest) for model, rest in _models(argument))


def _section(model: type[BaseModel], path: str, more: str = "") -> str:
    rows = [
        (f"`{name}`", _words(field.annotation) + _bounds(field), _field_default(field), _one_line(field.description))
        for name, field in model.model_fields.items()
    ]
    meanings = any(row[3] for row in rows)
    heads = ("Key", "Value", "Default", "Meaning") if meanings else ("Key", "Value", "Default")
    title = f"`{path}`" if path else "The whole file"
    words = "\n\n".join(text for text in (more, inspect.cleandoc(model.__doc__ or "")) if text)
    return f"## {title}\n\n{words}\n\n" + _table(heads, [row if meanings else row[:3] for row in rows])


def _words(annotation: Any) -> str:
    """What may stand in the file for a value of this type."""
    plain = {
        timedelta: "duration",
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        Ago: "`7d ago`, `4 x 7d ago`",
    }
    if annotation in plain:
        return plain[annotation]
    if annotation == Size:
        return "size, such as `20GB`"
    if annotation is SecretStr:
        return "text, or `env:NAME`"
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return _either([member.value for member in annotation])
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "map, see below"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return _either(arguments)
    if origin in (Union, UnionType):
        return " or ".join(_words(a) for a in arguments if a is not NoneType)
    if origin in (tuple, list):
        inner = _words(arguments[0])
        if get_origin(arguments[0]) in (Union, UnionType):
            return f"list, each {inner}"
        return "list of maps, see below" if inner == "map, see below" else f"list of {inner}"
    if origin is dict:
        inner = arguments[1]
        if inspect.isclass(inner) and issubclass(inner, BaseModel):
            return "map of names to maps, see below"
        return f"map of {_words(arguments[0])} to {_words(inner)}"
    return str(annotation)


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}", "pattern": "matching `{}`"}
    bounds = [
        words.format(getattr(bound, sign))
        for bound in field.metadata
        for sign, words in signs.items()
        if getattr(bound, sign, None) is not None
    ]
    return ", " + ", ".join(bounds) if bounds else ""


def _field_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None or value == "":
        return ""
    return _value(value)


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "the defaults below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, timedelta):
        return f"`{show_duration(value)}`"
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{k}: {v}' for k, v in value.items())}}}`"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


# HTTP


def http() -> str:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    routes.sort(key=lambda route: (route.path, sorted(route.methods or ())))
    pages = [f"- `{_methods(route)} {route.path}`" for route in routes if not route.include_in_schema]
    parts = [
        "# HTTP\n",
        "`watchkeeper serve` answers these addresses. Machines ask the first ones, in JSON; their exact description is"
        ' at `/api/v1/openapi.json`. An error is `{"error": {"message", "hint"}}`.\n',
        *(_route(route) for route in routes if route.include_in_schema),
        "## Pages\n\nThe dashboard, for people.\n",
        *pages,
    ]
    return "\n".join(parts)


def _methods(route: APIRoute) -> str:
    return ", ".join(sorted(set(route.methods or ()) - {"HEAD"}))


def _route(route: APIRoute) -> str:
    parts = [f"## {_methods(route)} {route.path}\n\n{inspect.cleandoc(route.endpoint.__doc__ or '')}\n"]
    places = {
        "path": route.dependant.path_params,
        "query": route.dependant.query_params,
        "header": route.dependant.header_params,
        "body": route.dependant.body_params,
    }
    rows = [
        (f"`{p.alias}`", place, "yes" if p.field_info.is_required() else "no", _one_line(p.field_info.description))
        for place, parameters in places.items()
        for p in parameters
    ]
    if any(row[3] for row in rows):
        parts.append(_table(("Parameter", "In", "Required", "Meaning"), rows))
    elif rows:
        parts.append(_table(("Parameter", "In", "Required"), [row[:3] for row in rows]))
    return "\n".join(parts)


# Words shared by the pages


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *(tuple(c.replace("|", "\\|") for c in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _either(values: Any) -> str:
    shown = [f"`{v}`" if v not in ("numeric", "categorical") else str(v) for v in values]
    return " or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _first_line(text: str | None) -> str:
    return _one_line(inspect.cleandoc(text or "").partition("\n\n")[0])


WRITERS: dict[str, Callable[[], str]] = {
    "cli.md": cli,
    "configuration.md": configuration,
    "http.md": http,
    "metrics.md": metrics,
}


def pages() -> dict[Path, str]:
    """Every reference page with the text that it should have."""
    return {PAGES / name: HEAD + write().rstrip() + "\n" for name, write in WRITERS.items()}


def stale() -> list[Path]:
    """The pages that do not say what the code does."""
    return [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        for path in (old := stale()):
            print(f"{path.relative_to(PAGES.parents[1])} is stale; run: uv run python docs/generate.py")
        return 1 if old else 0
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    PAGES.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
