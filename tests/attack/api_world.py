"""A hub full of real data, and schemathesis's configuration for it: keys, a session, a person, ids that exist."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mooring.identity import service
from mooring.identity.scopes import SCOPES
from tests.dashboard.people import Crew, Person, recruit
from tests.flows.linking import on_database
from tests.hub import Hub, Project, client, ok

ROOT = Path(__file__).resolve().parents[2]
KEY = {"api_key": "sandbox-key-acme"}


def document() -> dict[str, Any]:
    """The OpenAPI document as `make docs` writes it, from the code as it is now."""
    loader = importlib.machinery.SourceFileLoader("make_docs", str(ROOT / "scripts" / "make-docs"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    made: dict[str, Any] = module.openapi()
    return made


@dataclass(frozen=True)
class World:
    """A tenant with one of everything, and the secrets to see it by."""

    hub: Hub
    project: Project
    crew: Crew
    session: str
    person: str
    ids: dict[str, list[str]]


def populate(hub: Hub, provider: str) -> World:
    """Make the tenant, on a hub that may call the provider."""
    crew = recruit(hub, "attacked")

    async def key(tx: Any) -> str:
        return (await service.create_api_key(tx, crew.project, "attack", list(SCOPES))).secret

    project = Project(hub, crew.project, on_database(hub, key))
    setup = {"sandbox_url": provider, "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    config, other = (project.config("sandbox", "api_key", {"sandbox_url": provider}) for _ in range(2))
    oauth = project.config("sandbox", "oauth2", setup)
    accounts = [project.link(config, KEY, owner=f"owner-{n}") for n in range(8)]
    hooks = [_webhook(project, provider) for _ in range(4)]
    session = project.session("owner-9", expires_in=24 * 3600, multiple=True, manage_accounts=True)
    attempt = session.attempt()
    owned = [project.link(config, KEY, owner="owner-9", multiple=True) for _ in range(4)]
    call = project.proxy(accounts[0], path="/api/me")
    made = ok(project.http.post("/api_keys", json={"label": "spare", "scopes": ["unified:read"]}), 201)
    project.http.post(f"/webhooks/{hooks[0]}/test")
    deliveries = [d["id"] for d in ok(project.http.get(f"/webhooks/{hooks[0]}/deliveries"))["data"]]
    signing = [s["id"] for s in ok(project.http.get(f"/webhooks/{hooks[0]}/secrets"))["data"]]
    token = crew.owner.http.cookies.get("mooring-session")
    assert token
    ids = {
        "account": accounts[:3],
        "changed_account": accounts[3:],
        "hub_account": owned[:1],
        "changed_hub_account": owned[1:],
        "config": [config["id"], oauth["id"]],
        "changed_config": [other["id"]],
        "webhook": hooks[:1],
        "changed_webhook": hooks[1:],
        "delivery": deliveries or ["none"],
        "secret": signing,
        "attempt": [attempt],
        "log": [call.headers["x-request-id"]],
        "key": [made["id"]],
        "organization": [str(crew.organization)],
        "project": [crew.project],
        "user": [_guest(crew) for _ in range(3)],
        "connector": ["sandbox", "redmine", "hibob"],
        "method": ["api_key", "oauth2"],
        "action": ["sandbox_list_employees", "sandbox_get_company", "sandbox_create_employee"],
        "path": ["api/me", "/api/me", "api/items"],
    }
    return World(hub, project, crew, session.token, token, ids)


def _webhook(project: Project, provider: str) -> str:
    return str(ok(project.http.post("/webhooks", json={"url": f"{provider}/hook", "events": []}), 201)["id"])


def _guest(crew: Crew) -> str:
    """Somebody of the organization, to be changed."""
    body = {"email": f"guest-{secrets.token_hex(4)}@example.com", "name": "Guest"}
    made = ok(bearer(crew.owner).post(f"/organizations/{crew.organization}/members", json=body), 201)
    return str(made["id"])


def bearer(person: Person) -> Any:
    """A client with the person's token."""
    token = person.http.cookies.get("mooring-session")
    return client(person.hub.url, headers={"authorization": f"Bearer {token}"})
