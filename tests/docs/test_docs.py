"""The documentation says what the code does: generated pages are current, nothing is left out, links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from mooring import errors, settings
from mooring.cli import app
from mooring.identity.scopes import SCOPES
from tests.hub import Project, client

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked() -> list[Path]:
    """Files of the repository; without git (an archive) all that are not made by tools."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    if listed.returncode == 0 and listed.stdout:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [p for p in ROOT.rglob("*") if not {"node_modules", "__pycache__"} & set(p.parts)]
        found = [p for p in found if not any(part.startswith(".") and part != ".ci" for part in p.parts)]
    return [path for path in found if path.is_file()]


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make-docs"), "--check"], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_is_documented() -> None:
    page = read("docs/configuration.md")
    for name, default, help in settings.reference():
        assert f"| `{name}` | {help} | {default} |" in page
    client = ROOT / "mooring" / "client"  # whose two are no settings of the hub
    files = [path for path in (ROOT / "mooring").rglob("*.py") if not path.is_relative_to(client)]
    read_in_code = {n for path in files for n in re.findall(r"\bMOORING_[A-Z_]+\b", path.read_text())}
    assert read_in_code <= {name for name, _, _ in settings.reference()}
    for path in client.glob("*.py"):
        assert all(f"`{n}`" in read("docs/client.md") for n in re.findall(r"\bMOORING_[A-Z_]+\b", path.read_text()))


def test_every_command_and_option_is_documented() -> None:
    page = read("docs/cli.md")

    def look(command: object, path: str) -> None:
        section = page.partition(f"\n## {path}\n")[2].partition("\n## ")[0]
        assert section, path
        for parameter in command.params:  # type: ignore[attr-defined]
            assert f"`{parameter.opts[0]}`" in section or f"`{parameter.name.upper()}`" in section, (
                path,
                parameter.name,
            )
        for name, below in getattr(command, "commands", {}).items():
            look(below, f"{path} {name}")

    look(get_command(app), "mooring")


def all_errors(kind: type[errors.MooringError] = errors.MooringError) -> Iterator[type[errors.MooringError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_errors(below)


def test_every_error_code_is_documented() -> None:
    page = read("docs/errors.md")
    codes = {kind.code for kind in all_errors()}
    for path in (ROOT / "mooring").rglob("*.py"):
        codes |= set(re.findall(r'\bcode="([A-Za-z]+Error)"', path.read_text()))
    assert not [code for code in sorted(codes) if f"| `{code}` |" not in page]


def test_the_tree_of_errors_is_drawn_completely() -> None:
    drawn = errors.__doc__ or ""
    for kind in all_errors():
        line = next((line for line in drawn.splitlines() if re.search(rf"\b{kind.__name__}\b", line)), None)
        assert line is not None, kind.__name__
        if kind.__base__ is errors.MooringError:
            assert f"{kind.__name__} {kind.status}" in line


def test_every_scope_is_documented() -> None:
    page = read("docs/api.md")
    assert all(f"| `{scope}` | {meaning} |" in page for scope, meaning in SCOPES.items())


def schema_keys(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        properties = node.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for value in node.values():
            yield from schema_keys(value)
    elif isinstance(node, list):
        for value in node:
            yield from schema_keys(value)


def test_every_key_of_connector_files_is_documented() -> None:
    keys = set(schema_keys(json.loads(read("mooring/connectors/connector.schema.json"))))
    assert {"connector", "oauth2", "base_url"} <= keys
    page = read("docs/connectors.md")
    shown = " ".join(re.findall(r"```.*?```|`[^`]+`", page, re.DOTALL))
    assert not sorted(key for key in keys if not re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", shown))


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#{1,6} (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^]]+)]\([^)]+\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT) and target.exists(), f"{page.name}: {link}"
        if fragment:
            assert fragment in anchors(target.read_text(encoding="utf-8")), f"{page.name}: {link}"


def test_every_page_is_linked_from_the_readme_or_from_a_linked_page() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text(encoding="utf-8"))
        todo += [(page.parent / link).resolve() for link in links if "://" not in link]
    apart = {ROOT / "CHANGELOG.md"}
    assert not sorted(str(page.relative_to(ROOT)) for page in set(PAGES) - seen - apart)


def test_the_readme_begins_with_what_it_is_and_the_two_commands() -> None:
    first_screen = read("README.md").splitlines()[:16]
    commands = [line.split("#")[0].strip() for line in first_screen if line.startswith("make ")]
    assert commands == ["make demo", "make test"]
    makefile = read("Makefile")
    assert all(re.search(rf"^{command.removeprefix('make ')}:.*## ", makefile, re.MULTILINE) for command in commands)


def test_every_make_target_that_is_written_about_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = {word for page in PAGES for word in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))}
    assert named <= targets


def test_the_index_for_machines_names_every_page(project: Project) -> None:
    index = client(project.hub.url).get("/llms.txt")
    assert index.status_code == 200 and index.text.startswith("# Mooring\n\n> ")
    links = re.findall(r"\]\(([^)]+)\): (.*)", index.text)
    assert {link for link, _ in links} >= {
        f"{project.hub.url}/docs/{p.relative_to(DOCS).as_posix()}" for p in DOCS.rglob("*.md")
    }
    for link, about in links:
        assert about.strip(), link
        assert client("").get(link).status_code == 200
    assert client(project.hub.url).get("/docs/../README.md").status_code == 404


# Spelled in parts, so that this file does not hold what it looks for.
# `/Users/Me` is a path of a provider.
MACHINE_PATHS = [re.compile(rb"(?<![\w.$}-])/%s/(?!Me\b)\w" % name) for name in (b"work", b"home", b"root", b"Users")]
REGISTRIES = [
    b".".join(parts)
    for parts in (
        (b"pypi", b"org"),
        (b"pythonhosted", b"org"),
        (b"npmjs", b"org"),
        (b"npmjs", b"com"),
        (b"yarnpkg", b"com"),
        (b"crates", b"io"),
        (b"rubygems", b"org"),
    )
]


def test_no_file_names_a_path_of_a_machine_or_a_package_registry() -> None:
    found = []
    for path in tracked():
        content = path.read_bytes()
        found += [f"{path.relative_to(ROOT)}: {p.search(content)[0]!r}" for p in MACHINE_PATHS if p.search(content)]  # type: ignore[index]
        found += [f"{path.relative_to(ROOT)}: {host.decode()}" for host in REGISTRIES if host in content]
    assert not found


def undocumented(path: Path) -> Iterator[str]:
    """Modules, public classes and public functions without a docstring (what ruff's D100 to D103 look for)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not ast.get_docstring(tree):
        yield f"{path.relative_to(ROOT)}: the module"

    def look(node: ast.AST, inside: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith(
                "_"
            ):
                continue
            speaks = isinstance(child, ast.ClassDef) or len(child.body) > 1  # one statement says what it does itself
            if speaks and not ast.get_docstring(child):
                yield f"{path.relative_to(ROOT)}:{child.lineno}: {inside}{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from look(child, f"{child.name}.")

    yield from look(tree, "")


# Methods whose contract is the library's that calls them.
CALLED_BY_LIBRARIES = re.compile(r"\.process_(bind_param|result_value)$")


def test_everything_public_has_a_docstring() -> None:
    files = [p for p in (ROOT / "mooring").rglob("*.py") if "versions" not in p.parts]
    assert not [f for path in sorted(files) for f in undocumented(path) if not CALLED_BY_LIBRARIES.search(f)]


def test_every_decision_is_listed_and_has_its_three_parts() -> None:
    pages = sorted((DOCS / "decisions").glob("0*.md"))
    listed = re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", read("docs/decisions/README.md"))
    assert listed == [page.name for page in pages]
    for number, page in enumerate(pages, 1):
        text = page.read_text(encoding="utf-8")
        assert page.name.startswith(f"{number:04d}-") and text.startswith(f"# {number}. ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_the_scoreboard_stands_among_the_results() -> None:
    from bench.report import scoreboard

    assert (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8").endswith(scoreboard() + "\n"), (
        "copy docs/security/scoreboard.md: python -m bench.report"
    )
