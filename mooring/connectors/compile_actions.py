"""Actions of a connector file, checked against each other and turned into the internal form."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, get_args

from mooring.connectors.action_spec import ActionSpec, ErrorRule, PageSpec, StepSpec
from mooring.connectors.actions import PATH_INPUT, Action, ActionRequest, Input, Paging, PagingStyle, Place, Step
from mooring.connectors.compile_fields import humanise
from mooring.connectors.compile_scope import Checker
from mooring.connectors.definition import Meaning
from mooring.connectors.spec import ConnectorSpec
from mooring.connectors.yaml_source import Location
from mooring.protocol.expressions import ExpressionError
from mooring.protocol.template import Template, compile_template

# Names that an action's templates may start with. `map` sees the record itself instead.
ROOTS: Final = frozenset({"input", "steps", "auth", "item", "response", "index"})
_INPUT_USE: Final = re.compile(r"\binput\.([A-Za-z_][A-Za-z0-9_]*)")
_EFFECTS: Final = {"get": "read", "delete": "delete"}
_SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    "datetime": {"type": "string", "format": "date-time"},
    "file": {"type": "string", "contentEncoding": "base64"},
}
# Of an input that is written as a mapping: what is ours and no JSON Schema.
_OWN_KEYS: Final = frozenset({"in", "required"})


def compile_actions(spec: ConnectorSpec, check: Checker) -> dict[str, Action]:
    """Compile all actions of a file, noting every fault."""
    return {key: _Compiler(key, action, spec, check).action() for key, action in spec.actions.items()}


def limits_of(spec: ConnectorSpec, actions: Mapping[str, Any]) -> dict[str, Any]:
    """What the provider allows; the rates of an action are a pool for its method and path."""
    limits = spec.limits.model_dump(exclude_none=True) if spec.limits is not None else {}
    for action in actions.values():
        if isinstance(action, Action) and action.limits is not None and action.request is not None:
            parts = [part if isinstance(part, str) else "{value}" for part in action.request.path.parts]
            pool = {"path": "".join(parts).partition("?")[0], "method": action.request.method, "whole": True}
            limits["pools"] = [*limits.get("pools", ()), pool | dict(action.limits)]
    return limits


def meaning(rule: ErrorRule) -> Meaning:
    """An error rule in the internal form."""
    return Meaning(
        status=rule.status,
        when=compile_template(rule.when) if rule.when is not None else None,
        text=rule.text.lower() if rule.text is not None else None,
        cause=rule.cause,
        outcome=rule.as_,
        message=compile_template(rule.message) if rule.message is not None else None,
    )


class _Compiler:
    """Compiles one action; collects what it uses, to find inputs that are declared in vain."""

    def __init__(self, key: str, spec: ActionSpec, connector: ConnectorSpec, check: Checker) -> None:
        self._key = key
        self._spec = spec
        self._connector = connector
        self._check = check
        self._at: Location = ("actions", key)
        self._used: set[str] = set()  # inputs that a path or an expression names
        self._steps: set[str] = set()  # ids of the steps so far

    def action(self) -> Action:
        spec, at = self._spec, self._at
        steps = tuple(self._step(index, step) for index, step in enumerate(spec.steps))
        if spec.python is not None:  # a function takes whatever inputs are declared
            steps = (Step(id="python", python=spec.python),)
            self._used.update(spec.input)
        request = self._request(spec, spec.query, at) if spec.verb is not None else None
        result = self._tree(spec.result, (*at, "result"))
        inputs = tuple(self._inputs(spec, request))
        if request is not None and spec.body is None:
            files = [i.name for i in inputs if i.place == "body" and i.schema.get("contentEncoding") == "base64"]
            request = replace(request, files=tuple(files))
            if spec.send_as == "file" and len(files) != 1:
                self._check.fault((*at, "send_as"), "`send_as: file` needs `body`, or one input of the type `file`")
        paging = self._paging(spec.page, (*at, "page"))
        if steps:
            for one in inputs:
                if one.name not in self._used:
                    self._check.fault((*at, "input", one.name), f"no step uses the input `{one.name}`", on_key=True)
        return Action(
            key=self._key,
            label=spec.label or humanise(self._key),
            help=spec.help,
            docs=spec.docs,
            stage=spec.stage or self._connector.stage,
            tags=tuple(spec.tags),
            effects=tuple(spec.effects) or (_EFFECTS.get(spec.verb or "", "write"),),
            scopes=tuple(spec.scopes),
            internal=spec.internal,
            inputs=inputs,
            request=request,
            steps=steps,
            paging=paging,
            items=spec.items or (paging.items if paging is not None else None),
            result=result,
            limits=spec.limits.model_dump(exclude_none=True) if spec.limits is not None else None,
            unified=spec.unified,
            mapping=self._mapping(),
            meanings=tuple(meaning(rule) for rule in spec.errors),
            examples=tuple(e.model_dump(exclude_none=True) for e in spec.examples),
            tests=tuple(t.model_dump(exclude_none=True) for t in spec.tests),
        )

    def _step(self, index: int, spec: StepSpec) -> Step:
        at: Location = (*self._at, "steps", index)
        id = spec.id or spec.call or f"step{index + 1}"
        when, each = self._expression(spec.when, (*at, "when")), self._expression(spec.each, (*at, "each"))
        request = self._request(spec, spec.query, at) if spec.verb is not None else None
        if spec.send_as != "json" and spec.body is None:
            self._check.fault((*at, "send_as"), f"`send_as: {spec.send_as}` of a step needs `body`")
        if spec.call is not None and spec.call not in self._connector.actions:
            self._check.fault((*at, "call"), f"the action `{spec.call}` does not exist{self._near(spec.call)}")
        values = self._tree(spec.set, (*at, "set"))
        arguments = self._tree(spec.input or {}, (*at, "input"))
        if id in self._steps:
            self._check.fault(at, f"two steps are called `{id}`")
        self._steps.add(id)
        return Step(
            id=id,
            request=request,
            call=spec.call,
            python=spec.python,
            values=values,
            arguments=arguments,
            when=when,
            each=each,
            parallel=spec.parallel or 1,
            paging=self._paging(spec.page, (*at, "page")),
            items=spec.items,
            meanings=tuple(meaning(rule) for rule in spec.errors),
        )

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._connector.actions, 1)
        return f"; did you mean `{near[0]}`?" if near else ""

    def _request(self, spec: ActionSpec | StepSpec, query: Mapping[str, Any], at: Location) -> ActionRequest:
        verb = spec.verb or "get"
        if spec.send_as != "json" and verb in {"get", "delete"}:
            self._check.fault((*at, "send_as"), f"{verb.upper()} has no body")
        if "://" in spec.path:
            self._check.fault((*at, verb), "an action's path stays under the base URL")
        path = self._template(spec.path, (*at, verb))
        for part in path.parts:
            if isinstance(part, str):
                self._used.update(PATH_INPUT.findall(part))
        headers = {name: self._template(value, (*at, "headers", name)) for name, value in spec.headers.items()}
        self._check.header_names(headers, (*at, "headers"))
        return ActionRequest(
            method=verb.upper(),
            path=path,
            query=self._tree(dict(query), (*at, "query")),
            headers=headers,
            body=self._tree(spec.body, (*at, "body")),
            send_as=spec.send_as,
            base_url=compile_template(spec.base_url.rstrip("/")) if spec.base_url is not None else None,
        )

    def _inputs(self, spec: ActionSpec, request: ActionRequest | None) -> Iterator[Input]:
        in_path = (
            {n for p in request.path.parts if isinstance(p, str) for n in PATH_INPUT.findall(p)} if request else set()
        )
        reading = request is not None and request.method in ("GET", "DELETE")
        for name, given in spec.input.items():
            default: Place = "path" if name in in_path else "query" if reading else "body"
            yield self._input(name, given, default)
        named = self._used if not spec.steps else set()
        for name in sorted((in_path | named) - set(spec.input)):
            if name in in_path:  # a path input needs no declaration
                yield Input(name, "path", True, {"type": "string"})
            else:
                self._check.fault(self._at, f"`input.{name}` is not declared under `input`", on_key=True)
        if spec.steps:
            for name in sorted(self._used - set(spec.input)):
                self._check.fault((*self._at, "steps"), f"`{name}` is not declared under `input`", on_key=True)

    def _input(self, name: str, given: Any, default: Place) -> Input:
        if isinstance(given, str):
            required, kind = given.endswith("!"), given.rstrip("!")
            base = kind.removesuffix("[]")
            schema: Mapping[str, Any] = _SCHEMAS.get(base, {"type": base})
            if kind != base:
                schema = {"type": "array", "items": dict(schema)}
            return Input(name, default, required or default == "path", schema)
        place = given.get("in", default)
        if place not in get_args(Place):
            self._check.fault((*self._at, "input", name, "in"), f"`in` is one of {', '.join(get_args(Place))}")
            place = default
        schema = {key: value for key, value in given.items() if key not in _OWN_KEYS}
        text = schema.get("type")
        required = given.get("required") is True or place == "path"
        if isinstance(text, str):
            required = required or text.endswith("!")
            short = self._input(name, text, default).schema if text.rstrip("!").removesuffix("[]") != text else None
            schema = {**schema, **(short if short is not None else _SCHEMAS.get(text, {}))}
        if "help" in schema:
            schema["description"] = schema.pop("help")
        self._well_formed(name, schema)
        return Input(name, place, required, schema)

    def _well_formed(self, name: str, schema: Mapping[str, Any]) -> None:
        from jsonschema import Draft202012Validator  # only where an input is written as a JSON Schema
        from jsonschema.exceptions import SchemaError

        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as e:
            self._check.fault((*self._at, "input", name), f"no JSON Schema: {e.message}")

    def _paging(self, given: bool | PageSpec | None, at: Location) -> Paging | None:
        if given is True and self._connector.page is None:
            self._check.fault(at, "`page: true` needs a `page:` at the top of the file")
        spec = self._connector.page if given is True else given
        if not isinstance(spec, PageSpec):
            return None
        styles = [style for style in get_args(PagingStyle) if getattr(spec, style) is not None]
        if not styles:
            self._check.fault(at, "`page` needs one of `cursor`, `link`, `offset` or `page`", on_key=True)
            return None
        style: PagingStyle = styles[0]
        if style == "cursor" and spec.param is None:
            self._check.fault(at, "a cursor needs `param`, the parameter that takes it", on_key=True)
        return Paging(
            style=style,
            where=str(getattr(spec, style)),
            param=spec.param,
            place=spec.in_,
            size_param=spec.size_param,
            size=spec.size,
            start=spec.start,
            items=spec.items,
            total=spec.total,
            more=spec.more,
            stop_when=self._expression(spec.stop_when, (*at, "stop_when")),
        )

    def _mapping(self) -> Any:
        given = self._spec.map
        if isinstance(given, str):
            other = self._connector.actions.get(given)
            if other is None:
                self._check.fault(
                    (*self._at, "map"), f"`map` names the action `{given}`, which does not exist{self._near(given)}"
                )
                return None
            given = other.map if isinstance(other.map, dict) else None
        return self._record(given, (*self._at, "map")) if given is not None else None

    def _record(self, tree: Any, at: Location) -> Any:
        """Compile a mapping, whose expressions see the record."""
        if isinstance(tree, dict):
            return {key: self._record(value, (*at, key)) for key, value in tree.items()}
        if isinstance(tree, list):
            return [self._record(value, (*at, index)) for index, value in enumerate(tree)]
        if isinstance(tree, str) and "${" in tree:
            return self._compiled(tree, at)
        return tree

    def _expression(self, text: str | None, at: Location) -> Template | None:
        return self._template(text, at) if text is not None else None

    def _tree(self, tree: Any, at: Location) -> Any:
        if isinstance(tree, dict):
            return {key: self._tree(value, (*at, key)) for key, value in tree.items()}
        if isinstance(tree, list):
            return [self._tree(value, (*at, index)) for index, value in enumerate(tree)]
        return self._template(tree, at) if isinstance(tree, str) and "${" in tree else tree

    def _template(self, text: str, at: Location) -> Template:
        template = self._compiled(text, at)
        if unknown := template.names - ROOTS:
            known = ", ".join(sorted(ROOTS))
            self._check.fault(at, f"`${{{min(unknown)}}}` is not known in an action; expressions start with {known}")
        for part in template.parts:
            if not isinstance(part, str):
                self._used.update(_INPUT_USE.findall(part.source))
                for id in re.findall(r"\bsteps\.([A-Za-z_][A-Za-z0-9_]*)", part.source):
                    if id not in self._steps:
                        near = difflib.get_close_matches(id, self._steps, 1)
                        hint = f"; did you mean `{near[0]}`?" if near else ""
                        self._check.fault(at, f"no step before this one is called `{id}`{hint}")
        return template

    def _compiled(self, text: str, at: Location) -> Template:
        try:
            return compile_template(text)
        except ExpressionError as error:
            self._check.fault(at, str(error))
            return compile_template("")
