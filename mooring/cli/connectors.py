"""`mooring connectors …`: look at the catalogue, check connector files, write new ones."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from mooring import errors
from mooring.cli.shared import load_settings

connectors_app = typer.Typer(help="Look at the catalogue and check connector files.", no_args_is_help=True)


@connectors_app.command("list")
def connectors_list(
    drafts: Annotated[bool, typer.Option("--drafts", help="Drafts too: their facts are not confirmed yet.")] = False,
) -> None:
    """List the connectors of the catalogue and of MOORING_CONNECTORS_DIR."""
    from rich.console import Console
    from rich.table import Table

    from mooring.connectors.registry import load_registry

    listed = [c for c in load_registry(load_settings().connectors_dir).values() if drafts or c.stage != "draft"]
    if not sys.stdout.isatty():
        for c in listed:
            typer.echo(f"{c.key}\t{c.title}\t{','.join(c.categories)}\t{','.join(c.auth)}\t{c.version}")
        return
    table = Table("key", "title", "categories", "auth methods", "version")
    for c in listed:
        table.add_row(c.key, c.title, ", ".join(c.categories), ", ".join(c.auth), c.version)
    Console().print(table)


@connectors_app.command("show")
def connectors_show(key: Annotated[str, typer.Argument(help="Key of the connector.")]) -> None:
    """Show one connector: methods, fields, scopes, addresses."""
    from mooring.connectors.describe import describe
    from mooring.connectors.registry import load_registry

    connector = load_registry(load_settings().connectors_dir).get(key)
    if connector is None:
        raise errors.NotFound(
            f"no connector {key!r} in the catalogue", hint="`mooring connectors list` shows the keys."
        )
    typer.echo(describe(connector))


@connectors_app.command("check")
def connectors_check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Connector files; none checks the whole catalogue.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what .s1.yaml files may not say but is understood.")
    ] = False,
) -> None:
    """Check connector files and their guides; every fault is shown with file, line and column."""
    from mooring.connectors.guide_rules import guide_problems
    from mooring.connectors.loader import load_file
    from mooring.connectors.problem import ConnectorFileError
    from mooring.connectors.registry import load_registry
    from mooring.connectors.s1 import SUFFIX
    from mooring.connectors.s1.loader import load_s1

    if not files:
        registry = load_registry(load_settings().connectors_dir)
        for warning in registry.warnings:
            typer.echo(f"{warning} (warning)", err=True)
        faults = [p for c in registry.values() for p in guide_problems(c, f"{c.key}.md") if c.guide or c.builtin]
        for problem in faults:
            typer.echo(str(problem), err=True)
        for c in registry.values():
            if c.guide is None and not c.builtin:
                typer.echo(f"{c.source}: `{c.key}` has no guide; people see one made of its fields", err=True)
        if faults:
            raise typer.Exit(2)
        typer.echo(f"{len(registry)} connectors are fine")
        return
    failed = False
    for path in files:
        if not path.is_file():
            raise errors.ConfigurationError(f"{path}: there is no such file")
        try:
            if path.name.endswith(SUFFIX):
                loaded = load_s1(path, strict=strict)
                connector = loaded.connector
                for warning in loaded.warnings:
                    typer.echo(f"{warning} (warning)", err=True)
            else:
                connector = load_file(path, builtin=False)
            guide = path.with_name(f"{connector.key}.md")
            faults = guide_problems(connector, str(guide)) if connector.guide is not None else []
            failed = failed or bool(faults)
            for problem in faults:
                typer.echo(str(problem), err=True)
            if connector.guide is None:
                typer.echo(f"{guide}: there is no guide; people see one made of the fields", err=True)
            typer.echo(f"{path}: {connector.key} is fine ({', '.join(connector.auth)})")
        except ConnectorFileError as e:
            failed = True
            typer.echo(str(e), err=True)
    if failed:
        raise typer.Exit(2)


@connectors_app.command("test")
def connectors_test(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of connectors; none tests them all.")] = None,
) -> None:
    """Run the tests that stand beside actions, with their recorded answers. Nothing is sent anywhere."""
    from mooring.actions.trial import try_connector, untested
    from mooring.connectors.registry import load_registry

    registry = load_registry(load_settings().connectors_dir)
    if unknown := [key for key in keys or () if key not in registry]:
        raise errors.ConfigurationError(f"there is no connector {unknown[0]!r}; `mooring connectors list` shows them")
    passed = failed = 0
    for key in keys or registry:
        connector = registry[key]
        for outcome in asyncio.run(try_connector(connector)):
            if outcome.problem is None:
                passed += 1
                continue
            failed += 1
            typer.echo(f"{outcome.connector} {outcome.action}: {outcome.test}: {outcome.problem}", err=True)
        if keys and (bare := list(untested(connector))):
            typer.echo(f"{key}: without a test: {', '.join(bare)}", err=True)
    typer.echo(f"{passed} tests passed, {failed} failed")
    if failed:
        raise typer.Exit(1)


@connectors_app.command("import-openapi")
def connectors_import_openapi(
    spec: Annotated[Path, typer.Argument(help="An OpenAPI 3 or Swagger 2.0 document, JSON or YAML.")],
    include: Annotated[
        list[str] | None,
        typer.Option(help="Only operations whose id, tag, path or `GET /path` fits this pattern with `*`; repeatable."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave out what fits this pattern; repeatable.")] = None,
    key: Annotated[str | None, typer.Option(help="Key of the connector; made of the title by default.")] = None,
    category: Annotated[str, typer.Option(help="Category of the connector.")] = "other",
    base_url: Annotated[str | None, typer.Option(help="Address of the API, instead of the first server's.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output by default.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write over a file that differs, after its difference.")
    ] = False,
) -> None:
    """Write a connector from the description of an API: authentication, actions, inputs, paging.

    Where the file exists already, the difference is shown and the file is left alone unless --write is given.
    """
    from mooring.connectors.file_writing import problems_of, write_whole
    from mooring.connectors.openapi import writing
    from mooring.connectors.openapi.document import read_document
    from mooring.connectors.openapi.importer import import_document

    document = read_document(spec)
    try:
        imported = import_document(
            document, key=key, category=category, include=include or (), exclude=exclude or (), base_url=base_url
        )
    except ValueError as e:
        raise errors.ConfigurationError(f"{spec}: {e}") from None
    text = writing.as_text(imported, source=spec.name, raw=spec.read_bytes())
    problems = problems_of(text, imported.connector["connector"])
    for note in dict.fromkeys(imported.notes):
        typer.echo(f"note: {note}", err=True)
    for problem in problems:
        typer.echo(f"to correct: {problem}", err=True)
    typer.echo(
        f"{len(imported.connector['actions'])} actions, {len(imported.connector['auth'])} auth methods", err=True
    )
    if out is None:
        typer.echo(text, nl=False)
        return
    old = out.read_text(encoding="utf-8") if out.is_file() else None
    if old == text:
        typer.echo(f"{out} is as the description says", err=True)
        return
    if old is not None:
        typer.echo(writing.difference(old, text, out.name), nl=False)
        if not write:
            typer.echo(f"{out} was left alone; --write writes it", err=True)
            raise typer.Exit(1)
    write_whole(out, text)
    typer.echo(f"wrote {out}", err=True)
