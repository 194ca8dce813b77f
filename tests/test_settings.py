"""Settings: what is taken, what is refused, and that a refusal names the setting and shows no secret."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from mooring.errors import ConfigurationError
from mooring.settings import load, reference, unknown

GOOD = [
    ("MOORING_DATABASE_URL", "postgres://u:p%40ss@db.example/x", "postgresql://u:p%40ss@db.example/x"),
    ("MOORING_DATABASE_URL", "postgresql://u@[::1]:5432/x", "postgresql://u@[::1]:5432/x"),
    ("MOORING_DATABASE_URL", "postgresql://u@h/x?sslmode=verify-full", "postgresql://u@h/x?ssl=verify-full"),
    ("MOORING_DATABASE_URL", "postgresql://u@/x?host=/run/pg", "postgresql://u@/x?host=%2Frun%2Fpg"),
    (
        "MOORING_DATABASE_URL",
        "postgresql://u:p%2C@a.example:5433,b/x?sslmode=require",
        "postgresql://u:p%2C@/x?host=a.example:5433&host=b:5432&ssl=require&target_session_attrs=primary",
    ),
    ("MOORING_DATABASE_URL", "sqlite:////var/lib/x.db", "sqlite:////var/lib/x.db"),
    ("MOORING_PUBLIC_URL", "https://Hub.Example.com:443/", "https://hub.example.com"),
    ("MOORING_PUBLIC_URL", "http://[::1]:8080", "http://[::1]:8080"),
    ("MOORING_PUBLIC_URL", "https://Hub.Example.com/Integrations/", "https://hub.example.com/Integrations"),
    ("MOORING_ALLOWED_ORIGINS", " https://A.example , http://b:3000/,", ("https://a.example", "http://b:3000")),
    ("MOORING_EGRESS_ALLOW", "127.0.0.1:4300,[::1]:4300,redmine.lan:80", "127.0.0.1:4300,[::1]:4300,redmine.lan:80"),
    ("MOORING_LOG_LEVEL", "WARNING", "warning"),
    ("MOORING_BOOTSTRAP_API_KEY", "k" * 32, "k" * 32),
    ("MOORING_CONNECTORS_DIR", "/etc/connectors", Path("/etc/connectors")),
    ("MOORING_OIDC_ISSUER", "https://login.example.com/tenant", "https://login.example.com/tenant"),
    ("MOORING_OIDC_CLIENT_ID", "hub", "hub"),
    ("MOORING_EGRESS_ADDRESSES", "192.0.2.1, 2001:db8::1", "192.0.2.1, 2001:db8::1"),
    ("MOORING_TRUSTED_PROXIES", "10.0.0.0/8, ::1", (ip_network("10.0.0.0/8"), ip_network("::1"))),
    ("MOORING_REDIS_URL", "redis://[::1]:6379/2", "redis://[::1]:6379/2"),
    ("MOORING_REDIS_URL", "rediss://u:p@h?ssl_ca_certs=/ca.pem", "rediss://u:p@h?ssl_ca_certs=/ca.pem"),
]


@pytest.mark.parametrize(("name", "raw", "parsed"), GOOD)
def test_a_good_value_is_taken(name: str, raw: str, parsed: object) -> None:
    assert getattr(load({name: raw}), name.removeprefix("MOORING_").lower()) == parsed


WRONG = [
    ("MOORING_DATABASE_URL", "mysql://u:sekret@h/x"),
    ("MOORING_DATABASE_URL", "postgresql://u:sekret@h:port/x"),
    ("MOORING_DATABASE_URL", "postgresql://u:sekret@[::1/x"),
    ("MOORING_DATABASE_URL", "postgresql:///x"),
    ("MOORING_DATABASE_URL", "postgresql://u:sekret@a,b:port/x"),
    ("MOORING_DATABASE_URL", "postgresql://u:sekret@a,/x"),
    ("MOORING_DATABASE_URL", "postgresql://u:sekret,b/x"),
    ("MOORING_DATABASE_URL", "postgresql://u:sekret@a,b/x?host=c"),
    ("MOORING_DATABASE_URL", "postgresql://u:sekret@h/x?pool_size=3"),
    ("MOORING_DATABASE_URL", "postgresql://u:sekret@h/x?sslmode=yes"),
    ("MOORING_DATABASE_URL", "sqlite:///"),
    ("MOORING_DATABASE_URL", "sqlite://relative.db"),
    ("MOORING_PUBLIC_URL", "hub.example.com"),
    ("MOORING_PUBLIC_URL", "ftp://hub.example.com"),
    ("MOORING_PUBLIC_URL", "https://hub.example.com/a//b"),
    ("MOORING_PUBLIC_URL", "https://hub.example.com/../b"),
    ("MOORING_PUBLIC_URL", "https://hub.example.com?x=1"),
    ("MOORING_PUBLIC_URL", "https://user@hub.example.com"),
    ("MOORING_PUBLIC_URL", "https://hub.example.com:99999"),
    ("MOORING_PUBLIC_URL", "https://[::1"),
    ("MOORING_BOOTSTRAP_API_KEY", "sekret-short"),
    ("MOORING_BOOTSTRAP_API_KEY", "sekret:" + "k" * 32),
    ("MOORING_BOOTSTRAP_API_KEY", "sekret " + "k" * 32),
    ("MOORING_BOOTSTRAP_API_KEY", "sekret" + "k" * 251),
    ("MOORING_EGRESS_ALLOW", "10.0.0.0/8"),
    ("MOORING_TRUSTED_PROXIES", "proxy.lan"),
    ("MOORING_TRUSTED_PROXIES", "10.0.0.1/8"),
    ("MOORING_TRUSTED_PROXIES", "0.0.0.0/0"),
    ("MOORING_TRUSTED_PROXIES", "10.0.0.1,::/0"),
    ("MOORING_EGRESS_ALLOW", "redmine.lan"),
    ("MOORING_EGRESS_ALLOW", "*.lan:80"),
    ("MOORING_EGRESS_ALLOW", "redmine.lan:0"),
    ("MOORING_EGRESS_ALLOW", "redmine.lan:80,redmine.lan:65536"),
    ("MOORING_OIDC_ISSUER", "login.example.com"),
    ("MOORING_OIDC_ISSUER", "https://login.example.com/?sekret=1"),
    ("MOORING_OIDC_ISSUER", "https://[::1"),
    ("MOORING_ALLOWED_ORIGINS", "app.example.com"),
    ("MOORING_ALLOWED_ORIGINS", "https://app.example.com/page"),
    ("MOORING_ALLOWED_ORIGINS", "https://*.example.com"),
    ("MOORING_ALLOWED_ORIGINS", "https://u@app.example.com"),
    ("MOORING_ALLOWED_ORIGINS", "https://app.example.com:x"),
    ("MOORING_LOG_LEVEL", "loud"),
    ("MOORING_REDIS_URL", "http://:sekret@h:6379"),
    ("MOORING_REDIS_URL", "redis://:sekret@:6379"),
    ("MOORING_REDIS_URL", "redis://:sekret@h:port"),
    ("MOORING_REDIS_URL", "redis://:sekret@h/first"),
    ("MOORING_REDIS_URL", "redis://h/0?password=sekret"),
    ("MOORING_REDIS_URL", "redis://h/0?ssl_ca_certs=/ca.pem"),
]


@pytest.mark.parametrize(("name", "raw"), WRONG)
def test_a_wrong_value_is_refused_by_name_without_its_secret(name: str, raw: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load({name: raw})
    message = str(refusal.value)
    assert message.startswith(name + " ")
    assert "\n" not in message
    assert "sekret" not in message


def test_empty_means_not_set() -> None:
    assert load(dict.fromkeys((name for name, _, _ in reference()), "")) == load({})


def test_nothing_set_means_sqlite_in_the_working_folder() -> None:
    settings = load({})
    assert settings.resolved_database_url == f"sqlite:///{Path.cwd()}/mooring-data/mooring.db"
    assert settings.resolved_key_file == Path.cwd() / "mooring-data.keys"


def test_the_key_file_lies_beside_the_data_folder_and_never_in_it() -> None:
    settings = load({"MOORING_DATA_DIR": "/srv/mooring/data"})
    assert settings.resolved_key_file == Path("/srv/mooring/data.keys")


def test_a_repr_shows_no_secret() -> None:
    secret = {
        "MOORING_DATABASE_URL": "postgresql://u:sekret@h/x",
        "MOORING_MASTER_KEYS": "k1:sekret",
        "MOORING_BOOTSTRAP_API_KEY": "sekret" + "k" * 32,
        "MOORING_REDIS_URL": "redis://:sekret@h",
    }
    assert "sekret" not in repr(load(secret))


def test_names_that_mean_nothing_are_found() -> None:
    assert unknown({"MOORING_DATABASE": "x", "MOORING_DATA_DIR": "x", "OTHER": "x"}) == ["MOORING_DATABASE"]


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgres://u:p@db/x\n")
    assert load({"MOORING_DATABASE_URL_FILE": str(file)}).database_url == "postgresql://u:p@db/x"
    assert unknown({"MOORING_DATABASE_URL_FILE": "x", "MOORING_REDIS_URL_FILE": "x"}) == []
    assert unknown({"MOORING_PUBLIC_URL_FILE": "x"}) == ["MOORING_PUBLIC_URL_FILE"]


def test_a_file_that_does_not_serve_is_refused_by_name_without_its_secret(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("mysql://u:sekret@h/x")
    for environ, said in (
        ({"MOORING_DATABASE_URL_FILE": str(file)}, "MOORING_DATABASE_URL has the scheme"),
        ({"MOORING_DATABASE_URL_FILE": str(file), "MOORING_DATABASE_URL": "sqlite:////x"}, "are both set"),
        ({"MOORING_DATABASE_URL_FILE": str(tmp_path / "gone")}, "MOORING_DATABASE_URL_FILE: can't read"),
    ):
        with pytest.raises(ConfigurationError) as refusal:
            load(environ)
        assert said in str(refusal.value) and "sekret" not in str(refusal.value)
