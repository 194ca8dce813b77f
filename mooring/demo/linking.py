"""Link the sandbox by every method that a connector can have, and call through each account."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table

from mooring.demo.http import DemoError, Http, need

CALL = "/api/employees?page_size=2"


@dataclass(frozen=True, slots=True)
class Method:
    """One way to link the sandbox, with the values that its form gets."""

    key: str
    title: str
    form: dict[str, str]
    setup: dict[str, str]


METHODS = (
    Method("api_key", "API key (header)", {"api_key": "sandbox-key-acme"}, {}),
    Method("basic", "Basic (user + password)", {"username": "acme-admin", "password": "sandbox-password"}, {}),
    Method(
        "oauth2",
        "OAuth 2.0 authorization code",
        {},
        {"client_id": "sandbox-client", "client_secret": "sandbox-secret"},
    ),
    Method(
        "client_credentials",
        "OAuth 2.0 client credentials",
        {"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"},
        {},
    ),
    Method(
        "service_user",
        "Service user (two headers)",
        {"service_user_id": "SERVICE-1001", "service_user_token": "sandbox-service-token"},
        {},
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the result."""

    method: str
    account: str
    status: int
    answer: str


def link_all(http: Http, hub: str, provider: str, key: str, console: Console) -> list[Row]:
    """Per method: auth config, connect session, link, proxied call. Returns the rows of the table."""
    project = {"authorization": f"Bearer {key}"}
    rows = []
    for method in METHODS:
        console.print(f"Linking an account: {method.title} …")
        config = need(
            http(
                "POST",
                f"{hub}/auth_configs",
                headers=project,
                json={
                    "connector_key": "sandbox",
                    "authentication_config_key": method.key,
                    "setup": {"sandbox_url": provider, **method.setup},
                },
            ),
            201,
            "creating an auth config",
        )
        session = need(
            http(
                "POST",
                f"{hub}/connect_sessions",
                headers=project,
                json={
                    "origin_owner_id": f"customer-{method.key}",
                    "origin_owner_name": "Acme Inc.",
                    "integration_id": config["id"],
                },
            ),
            201,
            "creating a connect session",
        )
        account = _link(http, hub, session["token"], config["id"], method)
        called = http("GET", f"{hub}/proxy{CALL}", headers={**project, "x-account-id": account})
        people = called.json().get("employees", []) if called.status == 200 else []
        names = ", ".join(p["first_name"] for p in people)
        rows.append(Row(method.title, account, called.status, names or called.body.decode()[:200]))
    return rows


def table(rows: list[Row]) -> Table:
    """The result in 80 columns; ids are never broken, so that they can be copied."""
    shown = Table(title=f"GET {CALL} through one linked account per method", title_justify="left")
    shown.add_column("method", no_wrap=True)
    shown.add_column("account", no_wrap=True)
    shown.add_column("status", no_wrap=True)
    shown.add_column("people", overflow="fold")
    for row in rows:
        shown.add_row(row.method, row.account, str(row.status), row.answer)
    return shown


def link_to_try(http: Http, hub: str, key: str) -> str:
    """A link to the Hub as a customer's user sees it, with all methods to choose from."""
    session = need(
        http(
            "POST",
            f"{hub}/connect_sessions",
            headers={"authorization": f"Bearer {key}"},
            json={"origin_owner_id": "you", "origin_owner_name": "Your customer", "expires_in": 86400},
        ),
        201,
        "creating a connect session",
    )
    return str(session["auth_link_url"])


def _link(http: Http, hub: str, token: str, config_id: str, method: Method) -> str:
    """Do what the Hub does for an end user: post the form, or walk through the provider's consent page."""
    headers = {"x-hub-session-token": token}
    if method.key != "oauth2":
        form = {"integration_id": config_id, "credentials": method.form}
        linked = need(
            http("POST", f"{hub}/hub/accounts", headers=headers, json=form), 200, f"linking by {method.title}"
        )
        return str(linked["id"])
    attempt = need(http("POST", f"{hub}/hub/connection_attempts", headers=headers, json={"token": token}), 200, "OAuth")
    query = urlencode({"token": token, "connection_attempt_id": attempt["id"]})
    start = http("GET", f"{hub}/connect/oauth2/{config_id}?{query}")
    if start.status != 302:
        raise DemoError(f"demo: OAuth start answered {start.status}: {start.body.decode()[:200]}")
    consent = http(
        "POST",
        start.headers["location"],
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=b"decision=allow&company=acme",
    )
    cookie = start.headers["set-cookie"].partition(";")[0]
    http("GET", consent.headers["location"], headers={"cookie": cookie})
    done = need(http("GET", f"{hub}/hub/connection_attempts/{attempt['id']}", headers=headers), 200, "OAuth")
    if done["status"] != "authenticated":
        raise DemoError(f"demo: the OAuth attempt ended as {done['status']}: {done['error']}")
    return str(done["account"]["id"])
