"""The servers as pytest fixtures, started once per session; `tests/conftest.py` imports them."""

from collections.abc import Iterator

import pytest

from tests.servers.oidc import OidcServer
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.redmine import RedmineServer

# Where the hub and the tests' own apps take callbacks; any port of 127.0.0.1 matches.
REDIRECT_URIS = (
    "http://127.0.0.1/callback",
    "http://127.0.0.1/connect/oauth2/oidc-provider/callback",
    "http://127.0.0.1/dashboard/sso/callback",
)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Run PostgreSQL for the session; take a database of your own from `postgres_url`."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Give an empty database for one test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def oidc_session() -> Iterator[OidcServer]:
    """Run the OpenID provider (strict rotation) for the session; use it through `oidc_server`."""
    with OidcServer(REDIRECT_URIS) as server:
        yield server


@pytest.fixture
def oidc_server(oidc_session: OidcServer) -> OidcServer:
    """Give the OpenID provider with its counts at zero and no fault in force."""
    oidc_session.reset()
    return oidc_session


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """Run Redis for the tests of one file, which may stop it."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redmine_server() -> Iterator[RedmineServer]:
    """Run Redmine for the session; its data is shared by the tests that use it."""
    with RedmineServer() as server:
        yield server
