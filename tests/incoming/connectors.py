"""Connectors whose providers send webhooks, in every way that they are verified."""

from __future__ import annotations

from pathlib import Path

OWN = """
connector: {key}
title: {key}
category: other
base_url: http://127.0.0.1:{port}
auth:
  key:
    header: {{name: X-Api-Key, value: "${{api_key}}"}}
    fields: {{api_key: {{secret: true}}}}
    test: {{get: /api/me, identity: account_id}}
"""
EVENTS = {
    "in-signed": """
events:
  signature: {header: X-Sig, prefix: "v1:", timestamp: "${headers['x-at']}", signed: "${timestamp}.${body}"}
  id: "${headers['x-delivery']}"
  type: "${body.kind}"
  account: "${body.company}"
  challenge: "${body.challenge}"
""",
    "in-many": """
events:
  token: X-Token
  items: events
  id: "${item.id}"
  type: "${item.kind}"
""",
    "in-address": '\nevents: {address: true, type: "${body.kind}"}\n',
    "in-none": "",
    "in-trigger": "    external_trigger: true\n",
}


def place(folder: Path, port: int) -> None:
    """Write the connectors of these tests."""
    for key, events in EVENTS.items():
        (folder / f"{key}.yaml").write_text(OWN.format(key=key, port=port).rstrip() + "\n" + events)
