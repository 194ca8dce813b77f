"""`mooring connectors …` for authors: a first file, findings, runs at a provider, recorded tests, differences, pages."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mooring import errors
from mooring.cli.shared import load_settings

if TYPE_CHECKING:
    from mooring.actions.live import Live, Shown
    from mooring.connectors.actions import Action
    from mooring.connectors.definition import AuthMethod, Connector

Key = Annotated[str, typer.Argument(help="Key of a connector, or a connector file.")]
ActionName = Annotated[str, typer.Argument(help="Name of an action.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", help="An input as `name=value`; repeatable. JSON where it is no text."),
]
Method = Annotated[str | None, typer.Option(help="Auth method; the first one by default.")]
Credentials = Annotated[
    Path | None,
    typer.Option(
        help="JSON file with the values of the method's fields, readable by you alone, or `-`; asked for by default."
    ),
]
_SHOWN = 4000  # characters of a body that are shown


def attach(app: typer.Typer) -> None:
    """Add the commands for authors to `mooring connectors`."""
    app.command("new")(connectors_new)
    app.command("lint")(connectors_lint)
    app.command("run")(connectors_run)
    app.command("record")(connectors_record)
    app.command("diff")(connectors_diff)
    app.command("against")(connectors_against)
    app.command("docs")(connectors_docs)


def connectors_new(
    key: Annotated[str, typer.Argument(help="Key of the connector: a-z, 0-9 and `-`.")],
    base_url: Annotated[str, typer.Option(help="Address of the API.")],
    title: Annotated[str | None, typer.Option(help="Name that people read; made of the key by default.")] = None,
    category: Annotated[str, typer.Option(help="Category of the connector.")] = "other",
    auth: Annotated[str, typer.Option(help="api_key, bearer, basic, oauth2 or client_credentials.")] = "api_key",
    folder: Annotated[
        Path | None, typer.Option(help="Where to write; MOORING_CONNECTORS_DIR or the current folder by default.")
    ] = None,
) -> None:
    """Write a connector and its guide to go on from: one auth method, one action with its test. Nothing is overwritten."""
    from typing import cast, get_args

    from mooring.connectors.file_writing import problems_of, write_whole
    from mooring.connectors.registry import CATALOG
    from mooring.connectors.workbench.scaffold import AuthKind, new_connector

    if auth not in get_args(AuthKind):
        raise errors.ConfigurationError(f"--auth: {auth!r} is none of {', '.join(get_args(AuthKind))}")
    if (CATALOG / f"{key}.yaml").exists():
        raise errors.ConfigurationError(f"the key `{key}` belongs to a shipped connector; choose another key")
    made = new_connector(key, title=title, category=category, auth=cast("AuthKind", auth), base_url=base_url)
    if problems := problems_of(made.yaml, key):
        raise errors.ConfigurationError(problems[0])
    where = folder or load_settings().connectors_dir or Path()
    if not where.is_dir():
        raise errors.ConfigurationError(f"{where} is not a folder")
    files = {where / f"{key}.yaml": made.yaml, where / f"{key}.md": made.guide}
    if there := [path for path in files if path.exists()]:
        raise errors.ConfigurationError(f"{there[0]} exists already")
    for path, text in files.items():
        write_whole(path, text)
        typer.echo(f"wrote {path}")
    typer.echo(f"Next: mooring connectors check {where / f'{key}.yaml'}", err=True)


def connectors_lint(
    which: Annotated[
        list[str] | None, typer.Argument(help="Keys or files; none takes the catalogue and your folder.")
    ] = None,
    notes: Annotated[bool, typer.Option("--notes", help="Show what is only to be known, too.")] = False,
) -> None:
    """Find what works and is doubtful: unexplained scopes, unused fields, secrets in URLs, hosts that others choose."""
    from mooring.connectors.registry import load_registry
    from mooring.connectors.workbench.lint import lint

    if which:
        connectors: Iterable[Connector] = [_connector(name) for name in which]
    else:
        connectors = load_registry(load_settings().connectors_dir).values()
    warnings = count = shown = 0
    for connector in connectors:
        count += 1
        positions = _positions(connector)
        for finding in lint(connector):
            warnings += finding.level == "warning"
            if finding.level == "note" and not notes:
                continue
            shown += 1
            typer.echo(f"{connector.source}:{positions(finding.at)}: {finding.message} ({finding.level})", err=True)
    typer.echo(f"{count} connectors, {warnings} warnings")
    if warnings:
        raise typer.Exit(1)


def connectors_run(
    connector: Key,
    action: ActionName,
    input: Inputs = None,
    method: Method = None,
    credentials: Credentials = None,
    next: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show the result alone, not the exchange.")] = False,
) -> None:
    """Run an action at the provider with a credential of yours, and show what was sent and answered, without secrets.

    Nothing is stored. The result goes to standard output, the exchange to standard error.
    """
    live, found, given = _prepared(connector, action, input, method, credentials)

    async def run() -> Any:
        try:
            return await live.run(found, _grouped(given), next=next)
        finally:
            for exchange in live.exchanges if not quiet else ():
                _show(exchange)
            await live.http.aclose()

    result = _in_loop(live, run)
    if result.file is not None:
        kind = result.file.headers.get("content-type", "")
        typer.echo(f"a file: {len(result.file.body)} bytes, {kind or 'without a type'}", err=True)
        sys.stdout.buffer.write(result.file.body)
        return
    typer.echo(json.dumps({"data": result.data, "next": result.next}, indent=2, ensure_ascii=False))


def connectors_record(
    connector: Annotated[Path, typer.Argument(help="A connector file of yours.")],
    action: ActionName,
    input: Inputs = None,
    method: Method = None,
    credentials: Credentials = None,
    name: Annotated[str | None, typer.Option(help="Name of the test.")] = None,
    items: Annotated[int, typer.Option(min=1, max=50, help="Entries that are kept of each list.")] = 2,
    write: Annotated[bool, typer.Option("--write", help="Put the test into the file, beside its action.")] = False,
) -> None:
    """Run an action at the provider and turn the run into a test, cut down and without secrets.

    Answers hold whatever the provider knows of people: look at the test before you share it.
    """
    from mooring.actions.recording import as_yaml, inserted, recorded
    from mooring.connectors.file_writing import problems_of, write_whole
    from mooring.connectors.s1 import SUFFIX

    if connector.name.endswith(SUFFIX):
        raise errors.ConfigurationError(f"{connector}: files in the .s1.yaml format hold no tests")
    live, found, given = _prepared(str(connector), action, input, method, credentials)

    async def run() -> dict[str, Any]:
        try:
            try:
                await live.run(found, _grouped(given))
            except errors.MooringError:
                if not live.exchanges:  # nothing was asked, so there is nothing to record
                    raise
            return await recorded(live.connector, found, given, live.exchanges, name=name, items=items)
        finally:
            for exchange in live.exchanges:
                _show(exchange)
            await live.http.aclose()

    test = _in_loop(live, run)
    typer.echo("look at the test for what belongs to people before you share it", err=True)
    if not write:
        typer.echo(as_yaml(test, 6), nl=False)
        return
    text = inserted(connector.read_text(encoding="utf-8"), found.key, test)
    if problems := problems_of(text, live.connector.key):
        raise errors.Unprocessable(f"the file with the test would be wrong: {problems[0]}")
    write_whole(connector, text)
    typer.echo(f"wrote the test into {connector}", err=True)


def connectors_diff(
    old: Annotated[str, typer.Argument(help="Key or file of the connector as it was.")],
    new: Annotated[str, typer.Argument(help="Key or file of the connector as it is now.")],
) -> None:
    """Show what differs between two versions of a connector, and which version number the new one deserves."""
    from mooring.connectors.workbench.differ import advised_version, differences

    before, after = _connector(old), _connector(new)
    changes = differences(before, after)
    for change in changes:
        typer.echo(f"{change.effect}: {change.message}")
    if not changes:
        typer.echo("no difference", err=True)
        return
    advised = advised_version(before, changes)
    typer.echo(f"{before.version} → {after.version}; semantic versioning wants {advised}", err=True)


def connectors_against(
    connector: Key,
    spec: Annotated[Path, typer.Argument(help="The vendor's OpenAPI 3 or Swagger 2.0 document, JSON or YAML.")],
) -> None:
    """Compare the requests of a connector's actions with the document that its vendor publishes: paths, parameters, bodies.

    Fails when the document does not allow a request. Notes are doubtful only. Documents age: look up what is found.
    """
    from mooring.connectors.openapi.document import read_document
    from mooring.connectors.workbench.against import against

    ours, document = _connector(connector), read_document(spec)
    positions = _positions(ours)
    compared = against(ours, document)
    for finding in compared.findings:
        typer.echo(f"{ours.source}:{positions(finding.at)}: {finding.message} ({finding.level})", err=True)
    if compared.programs:
        typer.echo(f"{compared.programs} actions are programs and were not compared", err=True)
    typer.echo(
        f"{compared.found} of {compared.actions} actions found in the document, {len(compared.findings)} findings"
    )
    if compared.errors:
        raise typer.Exit(1)


def connectors_docs(
    connector: Key,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output by default.")] = None,
) -> None:
    """Write a connector as a page of documentation: methods, fields, scopes, limits, actions and their inputs."""
    from mooring.connectors.file_writing import write_whole
    from mooring.connectors.workbench.page import page

    text = page(_connector(connector))
    if out is None:
        typer.echo(text, nl=False)
        return
    write_whole(out, text)
    typer.echo(f"wrote {out}", err=True)


def _connector(name: str) -> Connector:
    """A connector by key or file. Raises ConfigurationError with the nearest key."""
    import difflib

    from mooring.connectors.loader import load_file
    from mooring.connectors.registry import load_registry
    from mooring.connectors.s1 import SUFFIX
    from mooring.connectors.s1.loader import load_s1

    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise errors.ConfigurationError(f"{path}: there is no such file")
        return load_s1(path).connector if path.name.endswith(SUFFIX) else load_file(path, builtin=False)
    registry = load_registry(load_settings().connectors_dir)
    found = registry.get(name)
    if found is None:
        near = difflib.get_close_matches(name, list(registry), 1)
        hint = f"did you mean {near[0]!r}?" if near else "`mooring connectors list` shows them"
        raise errors.ConfigurationError(f"there is no connector {name!r}; {hint}")
    return found


def _positions(connector: Connector) -> Any:
    """Where the parts of a connector stand in its file, as `line:column`."""
    from mooring.connectors.registry import CATALOG
    from mooring.connectors.yaml_source import read_yaml

    path = CATALOG / connector.source if connector.builtin else Path(connector.source)
    if not path.is_file():
        return lambda at: "1:1"
    source = read_yaml(path.read_text(encoding="utf-8"))

    def position(at: tuple[str | int, ...]) -> str:
        place = source.position(at, on_key=True)
        return f"{place.line}:{place.column}"

    return position


def _prepared(
    name: str, action_name: str, inputs: list[str] | None, method_key: str | None, file: Path | None
) -> tuple[Live, Action, dict[str, Any]]:
    """Everything that is known before the provider is asked; what is missing of the credential is asked for."""
    from mooring import __version__
    from mooring.actions import live
    from mooring.actions.running import action_of
    from mooring.kit.egress import EgressGuard, parse_allow
    from mooring.kit.http import HttpClient

    connector = _connector(name)
    action = action_of(connector, action_name)
    given = _given(action, inputs or [])
    key = method_key or next(iter(connector.auth))
    if key not in connector.auth:
        raise errors.ConfigurationError(f"--method: {key!r} is none of {', '.join(connector.auth)}")
    method = connector.auth[key]
    values = _from_file(file) if file is not None else _asked(method)
    settings = load_settings()
    guard = EgressGuard(parse_allow(settings.egress_allow))
    http = HttpClient(guard, user_agent=f"Mooring/{__version__}", proxy=settings.egress_proxy)
    # The client belongs to one event loop, and so does what is connected with it: both begin inside `_in_loop`.
    return live.Live(http, connector, method, values, ()), action, given


def _in_loop(live: Live, work: Any) -> Any:
    """Connect and work inside one event loop."""
    from mooring.actions.live import connect

    async def whole() -> Any:
        try:
            ready = await connect(live.http, live.connector, live.method, live.scope)
        except BaseException:
            await live.http.aclose()
            raise
        live.scope, live.secrets, live.public = ready.scope, ready.secrets, ready.public
        return await work()

    return asyncio.run(whole())


def _given(action: Action, inputs: list[str]) -> dict[str, Any]:
    """The inputs by name; JSON for those that are no text. Faults are told by the action itself."""
    kinds = {one.name: one.schema.get("type") for one in action.inputs}
    out: dict[str, Any] = {}
    for text in inputs:
        name, mark, value = text.partition("=")
        if not mark:
            raise errors.ConfigurationError(f"--input: {text!r} is not of the form name=value")
        if kinds.get(name) == "string":
            out[name] = value
            continue
        try:
            out[name] = json.loads(value)
        except ValueError:
            out[name] = value
    return out


def _grouped(given: Mapping[str, Any]) -> dict[str, Any]:
    size = {k: v for k, v in given.items() if k == "page_size"}
    return {"query": size, "body": {k: v for k, v in given.items() if k != "page_size"}}


def _from_file(file: Path) -> dict[str, str]:
    if str(file) == "-":
        text = sys.stdin.read()
    else:
        if not file.is_file():
            raise errors.ConfigurationError(f"--credentials: there is no file {file}")
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise errors.ConfigurationError(f"--credentials: others can read {file}; chmod 600 {file}")
        text = file.read_text(encoding="utf-8")
    try:
        values = json.loads(text)
    except ValueError:
        raise errors.ConfigurationError("--credentials: this is no JSON") from None  # it is not shown: it holds secrets
    if not isinstance(values, dict):
        raise errors.ConfigurationError("--credentials: must be an object of fields and their values")
    return {str(k): str(v) for k, v in values.items()}


def _asked(method: AuthMethod) -> dict[str, str]:
    """Ask for each field; secret ones are not shown while they are typed."""
    from mooring.actions.live import asked_of

    fields = asked_of(method)
    if not fields:
        return {}
    if not sys.stdin.isatty():
        names = ", ".join(f.key for f in fields)
        raise errors.ConfigurationError(f"the method {method.key!r} needs {names}: give them with --credentials")
    out = {}
    for field in fields:
        default = field.default if field.default is not None else "" if not field.required else None
        value = typer.prompt(
            field.label, default=default, hide_input=field.secret, show_default=bool(default), err=True
        )
        if value:
            out[field.key] = str(value)
    return out


def _show(exchange: Shown) -> None:
    lines = [f"> {exchange.method} {exchange.url}", *(f"> {n}: {v}" for n, v in exchange.headers)]
    if exchange.body:
        lines += [">", *(f"> {line}" for line in _cut(exchange.body).splitlines())]
    lines += [f"< {exchange.status}", *(f"< {n}: {v}" for n, v in exchange.answer_headers)]
    if exchange.answer is not None:
        text = exchange.answer
        shown = text if isinstance(text, str) else json.dumps(text, indent=2, ensure_ascii=False)
        lines += ["<", *(f"< {line}" for line in _cut(shown).splitlines())]
    typer.echo("\n".join(lines), err=True)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}\n… {len(text) - _SHOWN:,} more characters"
