"""Every snippet of the README and of docs/ is run, or at least read by what would run it.

| language | what happens to each block |
|---|---|
| sh | bash parses it; `curl` lines are sent to a real hub or sandbox and must succeed; `mooring` lines must be commands with
options that exist; `make` targets must exist; any other program is named in PROGRAMS |
| python | compiled; what has a test of its own is named in RUN_ELSEWHERE |
| yaml, json | parsed; connectors also by their own schema (tests/connectors/test_connector_files.py) |
| http | request line and headers are read, and the JSON of its body |
| js | parsed by Node.js |
| jsx | nothing here: like all of docs/embed.md it runs in Chromium (tests/browser/test_embed_docs.py) |
| html | the tags close |
| csv | as many cells in each row as in the first |
| text | nothing: it is output or a drawing |
"""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from mooring.cli import app
from tests.hub import Hub, Project
from tests.sandbox.harness import Sandbox

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

PROGRAMS = {
    ".venv/bin/python": "runs a tool of tests/, which has a short form in `make test`",
    "chmod": "changes a file that the lines before it make",
    "docker": "needs an engine; the files that it reads are checked in tests/deploy",
    "echo": "writes a file for the lines after it",
    "export": "sets what the lines after it read",
    "install": "copies files of deploy/ as root; that they are there is checked below",
    "kubectl": "needs a cluster; the manifests are checked in tests/deploy",
    "pg_dump": "needs a database of PostgreSQL; `mooring backup`, which runs it, is tested in tests/operations",
    "pip": "installs from a registry; the same steps run in tests/deploy/test_image.py",
    "podman": "needs an engine; the Containerfile is checked, and its steps run, in tests/deploy",
    "printf": "writes a file for the lines after it",
    "python3": "makes an environment; the same step runs in tests/deploy/test_image.py",
    "systemctl": "needs a machine that systemd runs; the units are checked in tests/deploy",
    "systemd-run": "needs a machine that systemd runs",
    "deploy/make-secrets": "run in tests/deploy/test_container_files.py",
}  # fmt: skip
"""Programs of snippets that are only parsed, and why."""

NOT_SENT = {
    "/proxy/people/search": "needs an account at HiBob; calls through accounts are tested in tests/proxy",
    "code=CODE": "the code comes from the line before, read by a person; tests/sandbox/test_oauth.py does it",
    "$GRANT": "needs the consent of an end user in a browser; tests/mcp does it",
}
"""What a `curl` line holds that can't be sent as it stands, and why."""

RUN_ELSEWHERE = {
    "docs/client.md": "tests/client",
    "docs/embed.md": "tests/browser/test_embed_docs.py",
    "docs/webhooks.md": "tests/webhooks/test_docs.py",
    "docs/library.md": "tests/library",
    "docs/moving.md": "tests/moving",
}
"""Pages whose Python runs in a test of its own."""

PLAIN = {"text", "console", ""}


@dataclass(frozen=True)
class Snippet:
    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}#{self.number}-{self.language}"


def snippets() -> Iterator[Snippet]:
    for page in PAGES:
        for number, (indent, language, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
            lines = [line.removeprefix(indent) for line in text.splitlines()]
            yield Snippet(page.relative_to(ROOT).as_posix(), number, language, "\n".join(lines) + "\n")


ALL = list(snippets())


def of(*languages: str) -> list[Snippet]:
    return [snippet for snippet in ALL if snippet.language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a snippet, word by word, without what is assigned in front of them."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in {"|", "||", "&&", ";", "&"}:
                while words and re.match(r"[A-Z_]+=", words[0]):
                    inner = re.fullmatch(r"[A-Z_]+=\$\((.*)", words[0])
                    words = [inner[1], *words[1:]] if inner else words[1:]
                    if inner:
                        words[-1] = words[-1].removesuffix(")")
                        break
                cut = next((i for i, w in enumerate(words) if set(w) <= set("<>")), len(words))
                if words[:cut]:
                    yield words[:cut]
                words = []
            else:
                words.append(word)


def test_every_language_is_looked_at() -> None:
    known = {"sh", "python", "yaml", "json", "http", "js", "jsx", "html", "csv"} | PLAIN
    assert {snippet.language for snippet in ALL} <= known
    assert len(ALL) > 60


@pytest.mark.parametrize("snippet", of("sh"), ids=str)
def test_a_command_is_one(snippet: Snippet) -> None:
    parsed = subprocess.run(["bash", "-n"], input=snippet.text, text=True, capture_output=True, check=False)
    assert parsed.returncode == 0 and not parsed.stderr, parsed.stderr
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for program, *arguments in commands(snippet.text):
        name = program.rsplit("/", 1)[-1] if program.endswith(("/mooring", "/pip")) else program
        if name == "mooring":
            check_command(arguments)
        elif name == "make":
            assert arguments[0] in targets
        elif name not in {"curl", "grep", "head", "tail", "ls", "sed", "xargs"}:
            assert name in PROGRAMS, f"{snippet}: {name}"
        for word in arguments:
            if re.match(r"(deploy|docs|scripts)/[\w./*-]+$", word):
                assert list(ROOT.glob(word)), f"{snippet}: {word} is not there"


def check_command(arguments: list[str]) -> None:
    """These words are a command of ours with options that it has. What they say is not looked at."""
    command: Any = get_command(app)
    rest = [word for word in arguments if not re.fullmatch(r"\d?[<>].*", word)]
    while getattr(command, "commands", None):
        assert rest and rest[0] in command.commands, arguments
        command, rest = command.commands[rest[0]], rest[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    used = {word.partition("=")[0] for word in rest if re.match(r"-[a-z-]", word)}
    assert used <= options, f"{arguments}: {sorted(used - options)}"
    if required := [p for p in command.params if p.required and p.param_type_name == "argument"]:
        assert len(rest) >= len(required), arguments


def to_send(snippet: Snippet) -> str:
    """The lines that can be sent, if the snippet holds requests and nothing else."""
    if not {words[0] for words in commands(snippet.text)} <= {"curl", "grep"}:
        return ""
    joined = re.sub(r"\\\n\s*", " ", snippet.text)
    lines = [line for line in joined.splitlines() if not any(reason in line for reason in NOT_SENT)]
    return "\n".join(lines) if any("curl" in line for line in lines) else ""


@pytest.fixture(scope="module")
def hub(hubs: Callable[[str], Hub]) -> Hub:
    return hubs("sqlite")


@pytest.fixture(scope="module")
def surroundings(hub: Hub, provider_url: str) -> dict[str, str]:
    """What the snippets call HUB, KEY and ACCOUNT: a project with an account at the sandbox."""
    project: Project = hub.new_project("snippets")
    config = project.config("sandbox", "api_key", {"sandbox_url": provider_url})
    account = project.link(config, {"api_key": "sandbox-key-acme"})
    return {"HUB": hub.url, "KEY": project.key, "ACCOUNT": account, "S": provider_url}


@pytest.mark.parametrize("snippet", [s for s in of("sh") if to_send(s)], ids=str)
def test_a_request_is_answered(snippet: Snippet, surroundings: dict[str, str], provider: Sandbox) -> None:
    """Each `curl` line goes to the hub or the sandbox as it stands, and is answered without an error."""
    text = to_send(snippet)
    text = text.replace("http://127.0.0.1:8080", surroundings["HUB"]).replace(
        "http://127.0.0.1:8090", surroundings["S"]
    )
    script = f'set -euo pipefail\ncurl() {{ command curl --noproxy "*" --fail -sS "$@"; }}\n{text}'
    env = {**os.environ, **surroundings}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{done.stdout[-500:]}{done.stderr[-500:]}"


def test_every_exception_is_still_needed() -> None:
    text = "\n".join(snippet.text for snippet in of("sh"))
    assert [needle for needle in NOT_SENT if needle not in text] == []
    used = {words[0].rsplit("/", 1)[-1] if words[0].startswith("/") else words[0] for words in commands(text)}
    assert sorted(set(PROGRAMS) - used) == []
    assert {snippet.page for snippet in of("python")} >= set(RUN_ELSEWHERE)


@pytest.mark.parametrize("snippet", of("python"), ids=str)
def test_python_compiles(snippet: Snippet) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compile(snippet.text, str(snippet), "exec", flags=flags, dont_inherit=True)


@pytest.mark.parametrize("snippet", of("yaml", "json"), ids=str)
def test_data_parses(snippet: Snippet) -> None:
    if snippet.language == "json":
        json.loads(snippet.text)
    else:
        assert list(yaml.safe_load_all(snippet.text))


@pytest.mark.parametrize("snippet", of("http"), ids=str)
def test_a_request_is_whole(snippet: Snippet) -> None:
    head, _, body = snippet.text.partition("\n\n")
    line, *headers = head.splitlines()
    assert re.fullmatch(r"[A-Z]+ /\S* HTTP/1\.1|HTTP/1\.1 \d{3} .*", line)
    assert all(re.fullmatch(r"[a-z-]+: \S.*", header) for header in headers)
    json.loads(body)


@pytest.mark.parametrize("snippet", of("js"), ids=str)
def test_javascript_parses(snippet: Snippet, tmp_path: Path) -> None:
    file = tmp_path / "snippet.mjs"
    file.write_text(snippet.text)
    parsed = subprocess.run(
        [shutil.which("node") or "node", "--check", str(file)], capture_output=True, text=True, check=False
    )
    assert parsed.returncode == 0, parsed.stderr


class Tags(HTMLParser):
    """Open tags, closed again in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"br", "img", "input", "link", "meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("snippet", of("html"), ids=str)
def test_html_is_closed(snippet: Snippet) -> None:
    tags = Tags()
    tags.feed(snippet.text)
    assert tags.open == []


@pytest.mark.parametrize("snippet", of("csv"), ids=str)
def test_a_table_has_whole_rows(snippet: Snippet) -> None:
    first, *rows = csv.reader(snippet.text.splitlines())
    assert rows and all(len(row) == len(first) for row in rows)
