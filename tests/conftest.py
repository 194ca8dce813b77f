"""Fixtures: a hub per database, the sandbox, and the servers of `tests.servers`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.browser.chromium import browser, tab  # noqa: F401 - fixtures become known by their names here
from tests.connectors.s1.samples import place_samples
from tests.hub import TLS, Hub, Project, close_clients
from tests.incoming.connectors import place as place_incoming
from tests.leaks import found_in, rows_of
from tests.sandbox.harness import Sandbox, start_sandbox, stop_sandbox
from tests.servers.fixtures import (  # noqa: F401 - fixtures become known by their names here
    REDIRECT_URIS,
    oidc_server,
    oidc_session,
    postgres_server,
    postgres_url,
    redis_server,
    redmine_server,
)
from tests.servers.oauth import AuthlibServer, DjangoOAuthServer, OAuthServer
from tests.servers.oidc import OidcServer
from tests.servers.ports import free_port, free_port_pair
from tests.servers.postgres import PostgresServer
from tests.servers.redmine import RedmineServer


def oidc_connector(base: str) -> str:
    """The connector of the oidc-provider test server, as an operator would write it."""
    head = f"""\
connector: oidc-provider
title: OIDC Provider
category: iam
base_url: {base}
auth:
"""
    code = f"""\
  NAME:
    label: OAuth 2.0 (AUTH)
    oauth2:
      authorize_url: {base}/auth
      token_url: {base}/token
      revoke_url: {base}/token/revocation
      issuer: {base}
      iss_required: true
      client_auth: AUTH
      scopes: {{openid: Sign in, offline_access: Stay connected}}
      authorize_params: {{prompt: consent}}
    test: {{get: /api/me, identity: sub}}
"""
    machine = f"""\
  machine:
    label: Client credentials
    oauth2:
      grant: client_credentials
      token_url: {base}/token
      revoke_url: {base}/token/revocation
      client_auth: basic
      scopes: ["api:read"]
    test: {{get: /api/me, identity: client_id}}
"""
    methods = {"code": "basic", "code_post": "post", "code_key": "private_key_jwt"}
    pushed = code.replace("NAME", "code_par").replace("AUTH", "basic")
    pushed = pushed.replace("      issuer:", f"      par_url: {base}/request\n      issuer:")
    return head + "".join(code.replace("NAME", n).replace("AUTH", a) for n, a in methods.items()) + pushed + machine


def oauth_connector(server: type[OAuthServer], port: int) -> str:
    """The connector of another server: `code_…` and `machine_…` for each way in which a client proves itself."""
    base = f"http://127.0.0.1:{port}"
    ends = f"token_url: {base}{server.token}, revoke_url: {base}{server.revocation}"
    page = f"authorize_url: {base}{server.authorize}, issuer: {base}, iss_required: true"
    code = f"{page}, scopes: {{profile: Who you are}}, {ends}"
    machine = f"grant: client_credentials, scopes: [reports], {ends}"
    methods = [f"connector: {server.name}", f"title: {server.name}", "category: iam", f"base_url: {base}", "auth:"]
    for auth in server.client_auth:
        methods += [
            f"  code_{auth}: {{oauth2: {{client_auth: {auth}, {code}}}, test: {{get: /api/me, identity: sub}}}}"
        ]
        if auth != "none":
            test = "test: {get: /api/me, identity: client_id}"
            issuer = f", issuer: {base}" if auth.endswith("_jwt") else ""
            methods += [f"  machine_{auth}: {{oauth2: {{client_auth: {auth}, {machine}{issuer}}}, {test}}}"]
    return "\n".join([*methods, *server.more_methods.format(base=base).splitlines(), ""])


def limited_connector(port: int) -> str:
    """A provider on a port of the test's that allows five calls in two seconds."""
    return f"""\
connector: limited
title: Limited
category: crm
base_url: http://127.0.0.1:{port}
limits: {{window: {{requests: 5, seconds: 2}}}}
auth:
  api_key:
    label: API key
    header: {{name: X-Api-Key, value: "${{api_key}}"}}
    fields: {{api_key: {{label: API key, secret: true}}}}
    test: {{get: /api/me}}
"""


def signing_connector(port: int) -> str:
    """A provider on a port of the test's whose requests are signed: with their body, and as Amazon S3 takes streams."""
    signature = 'region: eu-west-1, access_key: AKIAEXAMPLE, secret_key: "${secret_key}"'
    method = "{base_url: http://127.0.0.1:%d, fields: {secret_key: {secret: true}}, sign: {aws4: {service: %s, %s}}}"
    methods = [f"  {name}: {method % (port, name, signature)}" for name in ("sqs", "s3")]
    return "\n".join(["connector: signing", "title: Signing", "category: storage", "auth:", *methods, ""])


def places_connector(port: int) -> str:
    """A provider on a port of the test's that takes its credential at unusual places, or not before another login."""
    base = f"http://127.0.0.1:{port}"
    return f"""\
connector: places
title: Places
category: other
base_url: {base}
auth:
  path:
    base_url: {base}/bot${{api_key}}/v1
    path: true
    fields: {{api_key: {{secret: true, pattern: "[A-Za-z0-9:_-]+"}}}}
  body:
    body: {{apiKey: "${{api_key}}", company: "${{company}}", lang: eng}}
    fields: {{company: {{}}, api_key: {{secret: true}}}}
  form:
    body: {{credentials: {{user: "${{user}}", secret: "${{api_key}}"}}}}
    body_field: job
    fields: {{user: {{}}, api_key: {{secret: true}}}}
  named:
    session:
      post: /login
      body: {{password: "${{password}}"}}
      token: value
      keep: {{header_name: {{path: name, pattern: "[A-Za-z0-9-]+"}}}}
      send: {{header: "${{header_name}}", value: "${{access_token}}"}}
    fields: {{password: {{secret: true}}}}
  then:
    base_url: ${{session_url}}
    oauth2:
      authorize_url: {base}/authorize
      token_url: {base}/token
      pkce: false
      expires_in: 10m
      scopes: {{"{base}/${{org}}/.default": Everything of the organisation}}
      then:
        get: {base}/open
        query: {{version: "*", access_token: "${{access_token}}"}}
        keep:
          session_url: {{path: url, pattern: 'https?://127\\.0\\.0\\.1:[0-9]+/session/[a-z0-9]+/?'}}
          session_token: token
      send: {{header: X-Session, value: "${{session_token}}"}}
    fields: {{org: {{pattern: "[a-z]+"}}}}
    test: {{get: /ping}}
actions:
  send: {{post: /send, input: {{text: string!}}}}
"""


def login_connector(port: int) -> str:
    """A provider on a port of the test's with logins of its own: JSON under the base URL, and a form at a whole URL."""
    base = f"http://127.0.0.1:{port}"
    return f"""\
connector: logins
title: Logins
category: crm
base_url: {base}
auth:
  login:
    session:
      post: /v1/login
      headers: {{X-Client: mooring}}
      body: {{user: "${{username}}", password: "${{password}}", remember: true}}
      token: data.token
      expires_in: 1h
      keep: {{site: {{path: data.site, pattern: "[a-z]+"}}}}
      send: {{header: X-Session, value: "${{access_token}}/${{site}}"}}
    fields: {{username: {{}}, password: {{secret: true}}}}
    test: {{get: /v1/me, identity: id}}
  form:
    session:
      post: {base}/v1/token
      form: {{u: "${{username}}", p: "${{password}}"}}
      token: ""
      send: Token ${{access_token}}
    fields: {{username: {{}}, password: {{secret: true}}}}
    test: {{get: /v1/me}}
"""


def assertion_connector(port: int) -> str:
    """A provider on a port of the test's whose tokens are given for signed assertions (RFC 7523)."""
    base = f"http://127.0.0.1:{port}"
    return f"""\
connector: assertions
title: Assertions
category: iam
base_url: {base}
auth:
  service_account:
    oauth2:
      grant: jwt_bearer
      token_url: {base}/token
      client_auth: none
      scopes: [read, write]
      assertion:
        {{issuer: "${{email}}", subject: "${{user}}", scopes: true, lifetime: 10m, claims: {{tenant: "${{tenant}}"}}}}
    fields: {{email: {{}}, user: {{}}, tenant: {{required: false}}}}
    test: {{get: /v1/me, identity: id}}
  app:
    oauth2:
      grant: jwt_bearer
      token_url: {base}/token
      scopes: [read]
      assertion: {{issuer: "${{client_id}}", audience: "https://login.assertions.example", algorithm: ES256}}
    fields: {{}}
    app_fields: {{client_id: {{}}, client_secret: {{secret: true}}, private_key: {{secret: true, type: text_area}}}}
    test: {{get: /v1/me}}
"""


def retrying_connector(port: int) -> str:
    """A provider on a port of the test's whose refusals may be tried again."""
    return f"""\
connector: retrying
title: Retrying
category: crm
base_url: http://127.0.0.1:{port}
limits: {{retry: {{on: [429, 5xx], max: 5, after: X-Wait}}}}
auth:
  api_key:
    label: API key
    header: {{name: X-Api-Key, value: "${{api_key}}"}}
    fields: {{api_key: {{label: API key, secret: true}}}}
    test: {{get: /api/me}}
"""


@dataclass(frozen=True)
class Ports:
    """Loopback ports that the hubs of this session may call. `spare` are for servers that a test starts itself."""

    sandbox: int
    oidc: int
    redmine: int
    django: int
    authlib: int
    spare: tuple[int, ...]

    @property
    def _open(self) -> tuple[int, ...]:
        return (self.sandbox, self.oidc, self.redmine, self.django, self.authlib, *self.spare)

    @property
    def egress_allow(self) -> str:
        return ",".join(f"127.0.0.1:{p}" for p in self._open)


@pytest.fixture(scope="session")
def ports() -> Ports:
    """Ports are chosen before the hubs start, because egress entries are exact."""
    spare = tuple(free_port() for _ in range(6))
    return Ports(free_port(), free_port_pair(), free_port(), free_port(), free_port(), spare)


@pytest.fixture(scope="session")
def connectors_dir(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Own connectors of the tests."""
    folder = tmp_path_factory.mktemp("connectors")
    (folder / "oidc-provider.yaml").write_text(oidc_connector(f"http://127.0.0.1:{ports.oidc}"))
    (folder / "django-oauth.yaml").write_text(oauth_connector(DjangoOAuthServer, ports.django))
    (folder / "authlib.yaml").write_text(oauth_connector(AuthlibServer, ports.authlib))
    (folder / "limited.yaml").write_text(limited_connector(ports.spare[0]))
    (folder / "signing.yaml").write_text(signing_connector(ports.spare[0]))
    (folder / "places.yaml").write_text(places_connector(ports.spare[0]))
    (folder / "logins.yaml").write_text(login_connector(ports.spare[0]))
    (folder / "assertions.yaml").write_text(assertion_connector(ports.spare[0]))
    (folder / "retrying.yaml").write_text(retrying_connector(ports.spare[0]))
    place_samples(folder, f"http://127.0.0.1:{ports.sandbox}", f"http://127.0.0.1:{ports.spare[0]}")
    place_incoming(folder, ports.sandbox)
    return folder


@pytest.fixture(scope="session")
def hubs(
    request: pytest.FixtureRequest, ports: Ports, connectors_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Hub]]:
    """Starts a hub on a kind of database when it is asked for the first time. All of them run to the session's end.

    A parametrized fixture of the whole session would stop and start its hub at each change of the parameter, that is
    twice for every file.
    """
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with ExitStack() as stack:

        @functools.cache
        def hub_on(kind: str) -> Hub:
            hub = Hub(
                tmp_path_factory.mktemp(f"hub-{kind}"),
                free_port(),
                database_url=server.create_database() if kind == "postgres" else None,
                egress_allow=ports.egress_allow,
                connectors_dir=connectors_dir,
            )
            stack.callback(_search_rows, hub)
            return stack.enter_context(hub)

        yield hub_on


def _search_rows(hub: Hub) -> None:
    leaked = found_in("rows", rows_of(hub.database_url))
    assert not leaked, "secrets in the open:\n" + "\n".join(leaked)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def hub(request: pytest.FixtureRequest, hubs: Callable[[str], Hub]) -> Hub:
    """A running hub, once on SQLite and once on PostgreSQL: every test that uses it runs on both."""
    return hubs(request.param)


@pytest.fixture(autouse=True)
def _clients_closed() -> Iterator[None]:
    yield
    close_clients()


@pytest.fixture
def project(hub: Hub) -> Project:
    """A fresh project with a key of all scopes."""
    return hub.new_project()


@pytest.fixture
def other_project(hub: Hub) -> Project:
    """Another tenant of the same hub."""
    return hub.new_project("other")


@pytest.fixture(scope="session")
def provider_url(ports: Ports) -> Iterator[str]:
    """The sandbox on the port that the hubs may call."""
    process, url = start_sandbox(port=ports.sandbox)
    try:
        yield url
    finally:
        stop_sandbox(process)


@pytest.fixture
def provider(provider_url: str) -> Iterator[Sandbox]:
    """The sandbox in its first state."""
    with httpx.Client(base_url=provider_url, timeout=10, trust_env=False, verify=TLS) as http:
        http.post("/_control/reset").raise_for_status()
        yield Sandbox(provider_url, http)


@pytest.fixture(scope="session")
def oidc_running(ports: Ports) -> Iterator[OidcServer]:
    """oidc-provider with strict rotation on the port that the hubs may call."""
    with OidcServer(REDIRECT_URIS, port=ports.oidc) as server:
        yield server


@pytest.fixture
def oidc(oidc_running: OidcServer) -> OidcServer:
    """The same with its counts at zero and no fault in force."""
    oidc_running.reset()
    return oidc_running


@pytest.fixture(scope="session")
def django_oauth_running(ports: Ports) -> Iterator[DjangoOAuthServer]:
    """django-oauth-toolkit on the port that the hubs may call."""
    with DjangoOAuthServer(ports.django) as server:
        yield server


@pytest.fixture(scope="session")
def authlib_running(ports: Ports) -> Iterator[AuthlibServer]:
    """Authlib's server on the port that the hubs may call."""
    with AuthlibServer(ports.authlib) as server:
        yield server


@pytest.fixture(scope="session")
def redmine(ports: Ports) -> Iterator[RedmineServer]:
    """Debian's Redmine on the port that the hubs may call."""
    with RedmineServer(port=ports.redmine) as server:
        yield server


# These wait more than they compute. Begun first, they wait while others compute; begun last, one processor idles.
FIRST = (
    "faults/test_kills.py",
    "proxy/test_heartbeat.py",
    "faults/test_matrix.py",
    "exercise/test_every_method.py",
    "flows/test_refresh.py",
    "operations/test_keys.py",
    "test_serve.py",
    "faults/test_storm.py",
    "test_demo.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest at the front, file by file as they were."""
    here = Path(__file__).parent
    ranks = {here / name: rank for rank, name in enumerate(FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(FIRST)))
