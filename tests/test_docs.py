"""The documentation says what the code does: pages are fresh, examples run, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from fastapi.routing import APIRoute
from pydantic import BaseModel

import watchkeeper.monitors
import watchkeeper.notify  # noqa: F401  importing these fills the registries of metrics and channels
from watchkeeper import config, schema
from watchkeeper.channels import CHANNELS
from watchkeeper.cli import app
from watchkeeper.metrics import METRICS
from watchkeeper.server.app import ROUTERS, create_app

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """The fenced blocks of one language, each with the number of its first line."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text[: match.start(1)].count("\n") + 1, match[1]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


# Reference pages


def test_the_reference_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_generator_refuses_other_arguments() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--chekc"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2


def commands() -> dict[str, Any]:
    """Every command of the Typer app by its full name."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        yield name, command
        for child, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{name} {child}")

    return dict(walk(typer.main.get_command(app), "watchkeeper"))


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_is_documented(name: str) -> None:
    sections = re.split(r"^## ", (REFERENCE / "cli.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    section = next((s for s in sections if s.startswith(f"{name}\n")), "")
    assert section, f"docs/reference/cli.md has no section for {name}"
    assert commands()[name].help, f"{name} needs a docstring"
    for parameter in commands()[name].params:
        assert parameter.help, f"{name} needs a help text for {parameter.name}"
        if parameter.param_type_name == "option":
            assert all(f"`{flag}`" in section for flag in [*parameter.opts, *parameter.secondary_opts])


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_documented(name: str) -> None:
    assert f"### {name}\n" in (REFERENCE / "metrics.md").read_text(encoding="utf-8")
    assert METRICS[name].compute.__doc__, f"metric {name} needs a docstring"


CONFIGURATIONS = [
    value
    for value in vars(schema).values()
    if isinstance(value, type) and issubclass(value, BaseModel) and value.model_fields
]


@pytest.mark.parametrize("model", CONFIGURATIONS, ids=lambda model: model.__name__)
def test_every_configuration_key_is_documented(model: type[BaseModel]) -> None:
    text = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    missing = [name for name in model.model_fields if f"| `{name}` |" not in text]
    assert not missing


def test_every_http_route_is_documented() -> None:
    text = (REFERENCE / "http.md").read_text(encoding="utf-8")
    nothing: Any = None
    described = create_app(nothing, clock=nothing, operations=nothing).openapi()["paths"]
    pages = [
        f"- `{method} {route.path}`\n"
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and not route.include_in_schema
        for method in route.methods or ()
    ]
    answers = [f"## {method.upper()} {path}\n" for path, methods in described.items() for method in methods]
    assert pages
    assert answers
    assert [line for line in answers + pages if line not in text] == []


@pytest.mark.parametrize("name", CHANNELS)
def test_every_channel_is_documented(name: str) -> None:
    text = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    _, _, section = text.partition(f"## `channels.NAME` of type `{name}`\n")
    assert [
        key for key in CHANNELS[name].settings.model_fields if f"| `{key}` |" not in section.split("\n## ")[0]
    ] == []


# Examples


WITH_EXAMPLES = [page for page in PAGES if any(blocks(page, "python"))]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_run(page: Path, tmp_path: Path) -> None:
    """The blocks of a page run one after the other in one fresh interpreter and an empty folder."""
    lines: list[str] = []
    for first, text in blocks(page, "python"):
        lines += [""] * (first - 1 - len(lines)) + text.splitlines()
    script = tmp_path / f"{page.stem}.py"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def quoted_commands(page: Path) -> Iterator[str]:
    """Each `watchkeeper ...` that the page tells the reader to type."""
    lines = [line for _, text in blocks(page, "sh") for line in text.splitlines()]
    lines += re.findall(r"`((?:uv run )?watchkeeper [^`\n]+)`", prose(page))
    for line in lines:
        if match := re.search(r"(?:^|&& |uv run )(watchkeeper( .*)?)$", line.split("  #")[0].strip()):
            yield match[1]


@each_page
def test_quoted_commands_exist(page: Path) -> None:
    known = commands()
    for line in quoted_commands(page):
        name, *words = shlex.split(line.replace("[", "").replace("]", ""))
        options = {"--help", *(o for p in known[name].params for o in p.opts)}
        while words and f"{name} {words[0]}" in known:
            name = f"{name} {words.pop(0)}"
            options |= {o for p in known[name].params for o in [*p.opts, *p.secondary_opts]}
        assert not getattr(known[name], "commands", None) or not words, f"there is no command: {line}"
        unknown = [w for w in words if w.startswith("--") and w.partition("=")[0] not in options]
        assert not unknown, f"{line}: {name} has no {unknown}"


@each_page
def test_sample_configurations_are_valid(page: Path) -> None:
    for _, text in blocks(page, "yaml"):
        if text.startswith("models:"):
            config.loads(text)


# Links and words


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"
        assert not anchor or anchor in anchors(place), f"{page.relative_to(ROOT)}: no heading for {target}"


FORBIDDEN = re.compile(
    r"|".join(
        (
            r"(?<![\w.])/(?:work|root|home)/\w",  # paths of somebody's machine
            r"\bissues? #",
            r"py" r"pi\.org",
            r"python" r"hosted\.org",
            r"npm" r"js\.(?:org|com)",
        )
    ),
    re.IGNORECASE,
)
TEXT = {".md", ".py", ".toml", ".yaml", ".yml", ".html", ".css", ".js", ".json", ".txt", ""}
KEPT = {".ci", ".github", ".gitignore"}
"""The hidden files and folders that belong to the project; others are somebody's tools."""
SKIPPED = {"__pycache__", "dist", "artifacts"}


def project_files() -> list[Path]:
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.suffix in TEXT
        and path.is_file()
        and not any(part in SKIPPED or (part[0] == "." and part not in KEPT) for part in path.relative_to(ROOT).parts)
        and path.stat().st_size < 1_000_000
    ]


def test_no_file_names_a_machine_a_registry_or_a_ticket() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in project_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert not found, "\n".join(found)
