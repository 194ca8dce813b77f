"""Compile the actions of a `.s1.yaml` file. One that can't run is kept with the reason; it never costs the connector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mooring.connectors.actions import Action, Input
from mooring.connectors.definition import UnrunnableAction
from mooring.connectors.s1.expressions import S1Expression, compile_s1
from mooring.connectors.s1.inputs import composite_ids, input_rules, read_inputs
from mooring.connectors.s1.notes import Notes
from mooring.connectors.s1.program import DataStep, HttpStep, Phase, Program
from mooring.connectors.s1.steps import FUNCTIONS, UNSUPPORTED, CannotRun, Compiler
from mooring.connectors.yaml_source import Location

_EFFECT_OF: Final = {
    "list": "read",
    "get": "read",
    "test": "read",
    "create": "write",
    "update": "write",
    "delete": "delete",
}
_EFFECTS: Final = frozenset({"read", "write", "delete", "search", "execute"})
_STAGES: Final = {"preview": "beta", "beta": "beta", "internal": "draft"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What expressions of a file know of its auth methods: `type` by method, and which have the names of OAuth."""

    kinds: Mapping[str, str]
    oauth: frozenset[str]


def read_actions(notes: Notes, credentials: Credentials) -> dict[str, Action | UnrunnableAction]:
    """The actions of a file by id."""
    out: dict[str, Action | UnrunnableAction] = {}
    for index, raw in enumerate(notes.bundle.data["actions"]):
        at: Location = ("actions", index)
        key = raw.get("actionId") if isinstance(raw, dict) else None
        if not isinstance(key, str) or not key:
            notes.lenient(at, "an action is a mapping with an `actionId`; this one is left out")
            continue
        if key in out:
            notes.lenient(at, f"the action `{key[:80]}` is given twice; the first one counts")
            continue
        label = str(raw.get("label") or key)
        try:
            out[key] = _action(key, label, raw, at, notes, credentials)
        except CannotRun as reason:
            notes.warn(at, f"the action `{key[:80]}` can't run: {reason}")
            out[key] = UnrunnableAction(key, label, str(reason))
    return out


def _action(
    key: str, label: str, raw: Mapping[str, Any], at: Location, notes: Notes, credentials: Credentials
) -> Action:
    compiler = Compiler(notes, raw, at)
    phases = tuple(_phases(compiler, raw, at))
    inputs = read_inputs(raw, at, notes)
    declared = {one.name for one in inputs}
    for name in sorted(compiler.inputs_used - declared - {"page_size", "next"}):
        notes.lenient(at, f"`{name[:80]}` is used and no input of `{key[:80]}`; callers may give it all the same")
        inputs = (*inputs, Input(name, "query", required=False, schema={}))
    result = compiler.tree(raw.get("result"), (*at, "result"))
    types = {str(c) for c in raw.get("categories") or [] if isinstance(c, str)}
    action_type = str(raw.get("actionType") or "")
    given = [str(e) for e in raw.get("effects") or [] if e in _EFFECTS]
    scopes = raw.get("requiredScopes") or []
    text = raw.get("details") or raw.get("description")
    return Action(
        key=key,
        label=label,
        help=str(text) if text else None,
        stage=_STAGES.get(str(raw.get("releaseStage")), "ga"),  # type: ignore[arg-type]
        tags=tuple(sorted({*(str(t) for t in raw.get("tags") or []), *types} - {"internal"})),
        effects=tuple(given) or (_EFFECT_OF.get(action_type) or _guessed(phases),),
        scopes=tuple(scopes.split() if isinstance(scopes, str) else map(str, scopes)),
        internal="internal" in types or action_type == "refresh_token",
        inputs=inputs,
        unified=_unified(raw),
        examples=tuple(_examples(raw)),
        program=Program(
            phases,
            result,
            strict=notes.strict,
            rules=input_rules(raw, at, notes),
            ids=composite_ids(raw),
            kinds=credentials.kinds,
            oauth=credentials.oauth,
        ),
    )


def _guessed(phases: tuple[Phase, ...]) -> str:
    methods = {f.method for phase in phases for f in phase.functions if isinstance(f, HttpStep)}
    return "read" if methods <= {"GET"} else "delete" if methods == {"DELETE"} else "write"


def _unified(raw: Mapping[str, Any]) -> str | None:
    if raw.get("schemaType") != "unified":
        return None
    schema = raw.get("schema")
    if isinstance(schema, dict):
        return "/".join(str(schema[name]) for name in ("category", "key") if schema.get(name)) or None
    return str(schema) if schema else None


def _examples(raw: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    given = raw.get("examples")
    for one in given if isinstance(given, list) else []:
        if isinstance(one, dict) and isinstance(one.get("input"), dict):
            yield {"title": str(one.get("exampleDescription") or "Example"), "input": one["input"]}


def _phases(compiler: Compiler, raw: Mapping[str, Any], at: Location) -> Iterator[Phase]:
    steps = raw.get("steps")
    if not isinstance(steps, list) or not steps:
        raise CannotRun("it has no steps")
    for index, step in enumerate(steps):
        here: Location = (*at, "steps", index)
        if not isinstance(step, dict):
            raise CannotRun(f"step {index + 1} is no mapping")
        condition, iterator, success = (
            _condition(compiler, step, name, here) for name in ("condition", "iterator", "successCriteria")
        )
        several = step.get("stepFunctions")
        given = several if isinstance(several, list) and several else [step.get("stepFunction")]
        yield Phase(
            id=str(step.get("stepId") or f"step{index + 1}"),
            functions=tuple(_function(compiler, function, here) for function in given),
            condition=condition,
            stop_on_condition_error=step.get("onConditionError") == "break",
            iterator=iterator,
            ignore_error=step.get("ignoreError") is True,
            success=success,
        )


def _condition(compiler: Compiler, step: Mapping[str, Any], name: str, at: Location) -> S1Expression | None:
    value = step.get(name)
    if value is None:
        return None
    if isinstance(value, bool):
        return compile_s1("{{ true }}" if value else "{{ false }}", strict=False)
    found = compiler.expression(value, (*at, name))
    if found is None:
        raise CannotRun(f"`{name}` of a step is no expression")
    return found


def _function(compiler: Compiler, function: Any, at: Location) -> HttpStep | DataStep:
    if not isinstance(function, dict) or not isinstance(function.get("functionName"), str):
        raise CannotRun("a step has no `stepFunction` with a `functionName`")
    name = function["functionName"]
    here: Location = (*at, "stepFunction")
    if name in UNSUPPORTED:
        raise CannotRun(f"`{name}` {UNSUPPORTED[name]}")
    build = FUNCTIONS.get(name)
    if build is None:
        raise CannotRun(f"there is no step function `{name[:80]}`")
    parameters = function.get("parameters")
    return build(compiler, name, parameters if isinstance(parameters, dict) else {}, (*here, "parameters"))
