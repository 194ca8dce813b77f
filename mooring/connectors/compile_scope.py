"""What the templates of an auth method may refer to, and the checks that need it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mooring.connectors.definition import Field
from mooring.connectors.oauth2_spec import OAuth2Spec, SessionSpec
from mooring.connectors.url_rules import Authority, authority, has_fixed_domain, is_host_safe, is_url_safe
from mooring.connectors.yaml_source import Fault, Location
from mooring.protocol.expressions import ExpressionError
from mooring.protocol.template import Template, compile_template

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 §5.6.2
_KEPT_NAME = re.compile(r"\$\{[A-Za-z][A-Za-z0-9_]*\}")
_OURS = {"host", "content-length", "transfer-encoding", "connection", "cookie", "te", "upgrade"}
_MISPLACED = {
    "account": "the account's own data is not available in `auth`",
    "access_token": "there is an access token only in calls, and only with `oauth2` or `session`",
    "id_token": "there is an id token only in calls, and only with `oauth2`",
    "client_id": "there is a client id only with `oauth2`",
    "client_secret": "there is a client secret only with `oauth2`",
    "input": "inputs belong to actions",
    "auth": "inside `auth` the fields are named directly",
}


@dataclass(frozen=True)
class Scope:
    """The names that a template may use, and what is known of them."""

    names: frozenset[str]
    secret: frozenset[str]
    free: frozenset[str]  # names whose value the account's owner or the provider decides, not the operator
    patterns: Mapping[str, str | None]
    operator_secret: bool  # the operator's client secret or key goes to the token URL

    @staticmethod
    def of_fields(fields: Iterable[Field], app_fields: Iterable[Field]) -> Scope:
        """Build the scope of what people typed."""
        fields, app_fields = tuple(fields), tuple(app_fields)
        every = (*fields, *app_fields)
        return Scope(
            names=frozenset(f.key for f in every),
            secret=frozenset(f.key for f in every if f.secret),
            free=frozenset(f.key for f in fields),
            patterns={f.key: f.pattern for f in every},
            operator_secret=any(f.secret for f in app_fields),
        )

    def with_kept(self, oauth2: OAuth2Spec | SessionSpec) -> Scope:
        """Add what the callback and the token answer leave behind."""
        kept = oauth2.kept_patterns
        return replace(
            self, names=self.names | set(kept), free=self.free | set(kept), patterns={**self.patterns, **kept}
        )

    def with_token(self, oauth2: OAuth2Spec | SessionSpec) -> Scope:
        """Add the tokens and the kept values: the scope of a call."""
        tokens = {"access_token", "id_token"}
        if isinstance(oauth2, OAuth2Spec) and oauth2.then is not None:
            tokens |= {name for name, keep in oauth2.then.keep.items() if keep.pattern is None}
        kept = self.with_kept(oauth2)
        return replace(kept, names=kept.names | tokens, secret=kept.secret | tokens, free=kept.free | tokens)


@dataclass
class Checker:
    """Collects faults while templates are compiled."""

    faults: list[Fault] = field(default_factory=list)

    def fault(self, at: Location, message: str, *, on_key: bool = False) -> None:
        """Note a fault, once per place and message."""
        fault = Fault(at, message, on_key)
        if fault not in self.faults:
            self.faults.append(fault)

    def template(self, text: str, scope: Scope, at: Location, of: str | int | None = None) -> Template:
        """Compile `text` and note every name that `scope` lacks. `of` names the auth method where unclear."""
        template = compile_template(text)
        for name in sorted(template.names - scope.names):
            near = difflib.get_close_matches(name, scope.names, 1)
            if near:
                hint = f"did you mean `{near[0]}`?"
            elif name in _MISPLACED:
                hint = _MISPLACED[name]
            else:
                hint = f"declare it under `fields:`; known here: {', '.join(sorted(scope.names)) or 'nothing'}"
            where = f"`${{{name}}}` is not known here" if of is None else f"`${{{name}}}` is not known in auth.{of}"
            self.fault(at, f"{where}; {hint}")
        return template

    def tree(self, value: Any, scope: Scope, at: Location) -> Any:
        """Compile the text leaves of a YAML tree."""
        if isinstance(value, dict):
            return {key: self.tree(item, scope, (*at, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.tree(item, scope, (*at, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        try:
            return self.template(value, scope, at)
        except ExpressionError as error:
            self.fault(at, str(error))
            return value

    def url(
        self,
        text: str,
        scope: Scope,
        at: Location,
        *,
        of: str | int | None = None,
        carries_app_secret: bool = False,
        public: bool = False,
    ) -> Template:
        """Compile a URL and hold its host against rules P2 and O5.

        `carries_app_secret`: the operator's secret is sent there. `public`: the URL is seen by browsers.
        """
        url = self.template(text, scope, at, of)
        if public and (shown := url.names & scope.secret):
            self.fault(at, f"`{min(shown)}` is secret, and this URL is seen in the browser")
        found = authority(url)
        if found.problem:
            self.fault(at, found.problem)
            return url
        for expression in found.expressions:
            for name in sorted(expression.names & scope.names):
                self._host_name(name, found, scope, at)
        if carries_app_secret and scope.operator_secret and found.expressions:
            self._fixed_domain(found, scope, at)
        return url

    def _host_name(self, name: str, found: Authority, scope: Scope, at: Location) -> None:
        pattern = scope.patterns.get(name)
        if pattern is None:
            example = "https://[a-z0-9.-]+" if found.whole_url else "[A-Za-z0-9-]+"
            problem = f"`{name}` decides the host of this URL, so it needs a `pattern`, for example {example}"
            self.fault(at, problem)
        elif found.whole_url and not is_url_safe(pattern):
            problem = "must begin with https:// and match only letters, digits and `. - _ ~ % : /` (no `\\w`)"
            self.fault(at, f"the pattern of `{name}`, which holds this whole URL, {problem}")
        elif not found.whole_url and not is_host_safe(pattern):
            problem = "must match only letters, digits, `.`, `-` and `_` (write [A-Za-z0-9-], not `\\w` or `.`)"
            self.fault(at, f"the pattern of `{name}`, which decides the host of this URL, {problem}")

    def _fixed_domain(self, found: Authority, scope: Scope, at: Location) -> None:
        """Keep the operator's secret away from hosts that an end user may pick."""
        free = sorted(found.expressions[-1].names & scope.free)
        loose = [name for name in free if not has_fixed_domain(found, scope.patterns.get(name))]
        if loose:
            self.fault(
                at,
                f"the operator's client secret is sent to this URL, and `{loose[0]}` lets others choose its "
                "host; end the host or its pattern in a fixed domain such as \\.vendor\\.com, or ask the "
                "operator for it in `app_fields`",
            )

    def header_names(self, headers: Mapping[str, Template], at: Location) -> None:
        """Refuse names that are no header names, that we set ourselves, or that differ in case only."""
        seen: set[str] = set()
        for name, value in headers.items():
            lower = name.lower()
            if _KEPT_NAME.fullmatch(name):
                continue  # the provider names it; `_sent_as` has looked
            if not _HEADER_NAME.fullmatch(name):
                self.fault((*at, name), f"`{name}` is not a header name", on_key=True)
            elif lower in _OURS:
                self.fault((*at, name), f"the header `{name}` is not a connector's to set", on_key=True)
            elif lower in seen:
                self.fault((*at, name), f"the header `{name}` is given twice", on_key=True)
            if any(char in value.source for char in "\r\n\0"):
                self.fault((*at, name), "a header value is one line")
            seen.add(lower)

    def kept_header(self, name: str, scope: Scope, at: Location) -> None:
        """Hold a header's name that an answer of the provider tells against its pattern."""
        if not _KEPT_NAME.fullmatch(name):
            return
        key = name[2:-1]
        if key not in scope.names:
            self.template(name, scope, at)
        elif scope.patterns.get(key) != "[A-Za-z0-9-]+":
            self.fault(at, f"`{key}` is the name of a header, so it needs the pattern [A-Za-z0-9-]+")

    def kept_names(self, spec: OAuth2Spec | SessionSpec, scope: Scope, at: Location) -> None:
        """Refuse kept names that would hide a field."""
        callback = spec.callback_keep if isinstance(spec, OAuth2Spec) else {}
        then = spec.then.keep if isinstance(spec, OAuth2Spec) and spec.then is not None else {}
        for group, names in (("keep", spec.keep), ("callback_keep", callback), ("then", then)):
            for name in names:
                if name in scope.names or (group == "callback_keep" and name in spec.keep):
                    self.fault((*at, group, name), f"`{name}` is already a field or a kept name", on_key=True)
