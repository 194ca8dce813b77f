"""How a provider's webhooks come in, checked and turned into the internal form."""

from __future__ import annotations

from typing import Final

from mooring.connectors.compile_scope import Checker
from mooring.connectors.definition import Events, EventSignature
from mooring.connectors.event_spec import EventsSpec
from mooring.connectors.yaml_source import Location
from mooring.protocol.template import Template, compile_template

ROOTS: Final = frozenset({"body", "headers", "query", "method", "url", "timestamp"})


def compile_events(spec: EventsSpec, check: Checker) -> Events:
    """The internal form. Notes every fault."""

    def text(value: str | None, key: str, roots: frozenset[str] = ROOTS) -> Template | None:
        if value is None:
            return None
        template = compile_template(value)
        at: Location = ("events", *key.split("."))
        for name in sorted(template.names - roots):
            check.fault(at, f"`{name}` is not known here; known: {', '.join(sorted(roots))}")
        return template

    one = frozenset({"item"}) if spec.items is not None else frozenset[str]()
    signature = None
    if spec.signature is not None:
        s = spec.signature
        signed = text(s.signed, "signature.signed")
        assert signed is not None
        if "body" not in signed.names:
            check.fault(("events", "signature", "signed"), "what is signed has to hold `${body}`, else any body passes")
        signature = EventSignature(
            header=s.header.lower(),
            algorithm=s.algorithm,
            encoding=s.encoding,
            prefix=s.prefix,
            part=s.part,
            timestamp_part=s.timestamp_part,
            timestamp=text(s.timestamp, "signature.timestamp", ROOTS - {"timestamp"}),
            tolerance=float(s.tolerance),
            signed=signed,
            secret_encoding=s.secret_encoding,
        )
    token = spec.token
    return Events(
        signature=signature,
        token_header=token.header.lower() if token is not None and token.header is not None else None,
        token_query=token.query if token is not None else None,
        token_basic=bool(token is not None and token.basic),
        standard_webhooks=bool(spec.standard_webhooks),
        id=text(spec.id, "id", ROOTS | one),
        type=text(spec.type, "type", ROOTS | one),
        account=text(spec.account, "account", ROOTS | one),
        items=spec.items,
        challenge=text(spec.challenge, "challenge"),
    )
