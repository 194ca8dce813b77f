"""`mooring plan`, `mooring apply`, `mooring export`: what is set up, in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mooring import errors, settings
from mooring.cli.shared import with_audit


class _StableExit(TyperCommand):
    """A command that ends with 1 on wrong options: 2 is what `plan` says for "there are changes"."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        try:
            return super().make_context(*args, **more)
        except Exception as e:
            if getattr(e, "exit_code", 0) == 2:
                e.exit_code = 1  # type: ignore[attr-defined]
            raise


@contextmanager
def _refusals() -> Iterator[None]:
    """End with 1 and the reasons on standard error, where other commands end with 2."""
    try:
        yield
    except errors.ConfigurationError as e:
        typer.echo(f"mooring: {e}", err=True)
    except errors.MooringError as e:
        details = "".join(f"\n  - {line}" for line in e.errors)
        hint = f" {e.error_hint}" if e.error_hint else ""
        typer.echo(f"mooring: {e.message.removesuffix('.')}.{hint}{details}", err=True)
    else:
        return
    raise typer.Exit(1)


HubYaml = Annotated[Path, typer.Option("--file", "-f", help="The file.")]
Prune = Annotated[bool, typer.Option("--prune", help="Delete what is in the hub but not in a list of the file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write the plan as JSON.")]


def _with_tools(action: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Run `action(db, tools)`."""
    from mooring.connectors.registry import load_registry
    from mooring.kit.egress import EgressGuard, parse_allow
    from mooring.plan.comparison import Tools

    async def run(db: Any, vault: Any) -> Any:
        loaded = settings.load()
        registry = load_registry(loaded.connectors_dir)
        return await action(db, Tools(vault, registry, EgressGuard(parse_allow(loaded.egress_allow))))

    return with_audit(run)


def _show(plan: Any, as_json: bool, **more: Any) -> None:
    if as_json:
        typer.echo(json.dumps(plan.as_json() | more, indent=2, ensure_ascii=False))
        return
    for line in plan.lines():
        typer.echo(line)


def plan(file: HubYaml = Path("hub.yaml"), prune: Prune = False, as_json: AsJson = False) -> None:
    """Show what `apply` would change. Ends with 0 for nothing to do, 2 for changes, 1 for an error (docs/plan.md)."""
    from mooring.plan.applying import rehearse
    from mooring.plan.reading import read_file

    with _refusals():
        read = read_file(file)
        found = _with_tools(lambda db, tools: rehearse(db, tools, read, prune=prune))
    _show(found, as_json)
    raise typer.Exit(2 if found.changes else 0)


def apply(
    file: HubYaml = Path("hub.yaml"),
    prune: Prune = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before something is deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the hub to the file, in one transaction, also while it runs. Ends with 0, or with 1 and nothing written."""
    from mooring.plan.applying import apply as write
    from mooring.plan.applying import rehearse
    from mooring.plan.reading import read_file

    with _refusals():
        read = read_file(file)

        async def run(db: Any, tools: Any) -> Any:
            found = await rehearse(db, tools, read, prune=prune)
            if not as_json:
                _show(found, as_json)
            if found.deletions and not yes and not typer.confirm(f"Delete {len(found.deletions)}?", err=True):
                raise typer.Exit(1)
            if found.changes:
                await write(db, tools, read, found, prune=prune)
            return found

        found = _with_tools(run)
    if as_json:
        _show(found, as_json, applied=bool(found.changes))
    elif found.changes:
        typer.echo("done")


def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, by default standard output.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="Only this project, by id or name.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write what the hub has as a file for `plan` and `apply`. Secrets are references with proposed names."""
    from mooring.identity.service import find_project
    from mooring.plan.exporting import Export

    async def run(db: Any, tools: Any) -> Any:
        url = settings.load().public_url or "http://127.0.0.1:8080"
        async with db.read() as tx:
            only = await find_project(tx, project) if project else None
            made = Export(tx, tools.vault, tools.registry)
            return await made.text(url, only), made.names

    with _refusals():
        text, names = _with_tools(run)
        if output is None:
            typer.echo(text, nl=False)
        else:
            _write(output, text, force)
            typer.echo(f"wrote {output}; it refers to {len(names)} secrets, whose names stand at its top", err=True)


def _write(path: Path, text: str, force: bool) -> None:
    if not force and path.exists():
        raise errors.ConfigurationError(f"--output: {path} exists; --force replaces it")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as e:
        beside.unlink(missing_ok=True)
        raise errors.ConfigurationError(f"--output: can't write {path}: {e.strerror}") from None


def attach(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (plan, apply, export):
        app.command(cls=_StableExit)(command)
