"""django-oauth-toolkit on Django. Its protocol code is untouched; ours are the settings, the clients and the routes.

PKCE with S256 is required, redirect URIs are compared with what the test registers but for the port of 127.0.0.1, a refresh
token serves once and its reuse ends the grant. Confidential clients may prove themselves in the header or in the body.
Control: POST /_control/expire, revoke, settings {"access_ttl"}, redirect_uri {"uri"}. The database is in the working
directory.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from django.utils import timezone
from serving import ACCESS_TTL, HOST, ISSUER, Counted, serve

LOGIN = '<form method="post">{% csrf_token %}{{ form }}<input type="submit"></form>'
LOADERS = [
    ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN}),
    "django.template.loaders.app_directories.Loader",
]
access_ttl = ACCESS_TTL
APPS = ("django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions")

settings.configure(
    ALLOWED_HOSTS=[HOST],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "server.sqlite",
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY",
            },
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[*APPS, "django.contrib.staticfiles", "oauth2_provider"],
    LOGIN_URL="/login",
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    MIGRATION_MODULES=dict.fromkeys(["auth", "contenttypes", "sessions", "oauth2_provider"]),
    OAUTH2_PROVIDER={
        "SCOPES": {"profile": "Who you are", "reports": "Reports"},
        "DEFAULT_SCOPES": ["profile"],
        "PKCE_REQUIRED": True,
        "REFRESH_TOKEN_EXPIRE_SECONDS": 14 * 86400,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "ROTATE_REFRESH_TOKEN": True,
        "OIDC_ISS_ENDPOINT": ISSUER,
        "EXTRA_SERVER_KWARGS": {"token_expires_in": lambda _: access_ttl},
        **{
            f"COMPLIANT_BCP_RFC9700_{rule}": True
            for rule in (
                *("IMPLICIT_GRANT", "PASSWORD_GRANT", "PKCE_METHOD", "ACCESS_TOKEN_TRANSPORT", "AUTHZ_RESPONSE_ISS"),
                *("TOKEN_STORAGE", "REFRESH_TOKEN", "REDIRECT_URI_MATCHING", "PKCE_REQUIRED"),
            )
        },
    },
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # the tests' time is not for slow hashes
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(32),
    STATIC_URL="/static/",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "context_processors": ["django.template.context_processors.request"],
                "loaders": [("django.template.loaders.cached.Loader", LOADERS)],
            },
        }
    ],
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - models are there after setup()
from django.contrib.auth.views import LoginView  # noqa: E402
from oauth2_provider.decorators import protected_resource_metadata  # noqa: E402
from oauth2_provider.models import AccessToken, Application, RefreshToken  # noqa: E402

CODE, MACHINE = Application.GRANT_AUTHORIZATION_CODE, Application.GRANT_CLIENT_CREDENTIALS
CLIENTS = (
    ("basic-app", "basic-secret", CODE),
    ("odd:app%/+ x", "s:e%c r+e/t~", CODE),
    ("post-app", "post-secret", CODE),
    ("public-app", "", CODE),
    ("basic-machine", "basic-secret", MACHINE),
    ("post-machine", "post-secret", MACHINE),
)


@protected_resource_metadata()
def me(request: HttpRequest) -> JsonResponse:
    token = request.headers["Authorization"].split()[1]
    found = AccessToken.objects.select_related("application", "user").get(
        token_checksum=hashlib.sha256(token.encode()).hexdigest()
    )
    user = found.user.username if found.user else None
    return JsonResponse({"sub": user, "client_id": found.application.client_id, "scope": found.scope})


urlpatterns = [
    path("login", LoginView.as_view()),
    path("o/", include("oauth2_provider.urls")),
    path("api/me", me),
]


def seed() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    for name in ("jane", "mallory"):
        User.objects.create_user(name, password="any-password")
    for client_id, secret, grant in CLIENTS:
        kind = Application.CLIENT_CONFIDENTIAL if secret else Application.CLIENT_PUBLIC
        Application.objects.create(
            client_id=client_id, client_secret=secret, client_type=kind, authorization_grant_type=grant, name=client_id
        )


def expire(_: Any) -> int:
    now = timezone.now()
    return int(AccessToken.objects.filter(expires__gt=now).update(expires=now - timedelta(seconds=1)))


def revoke(_: Any) -> None:
    for token in RefreshToken.objects.filter(revoked=None):
        token.revoke()


def set_up(asked: dict[str, Any]) -> None:
    global access_ttl
    access_ttl = asked["access_ttl"]


def redirect_uri(asked: dict[str, Any]) -> None:
    for app in Application.objects.filter(authorization_grant_type=CODE):
        app.redirect_uris = " ".join(sorted({*app.redirect_uris.split(), asked["uri"]}))
        app.save()


controls = {"expire": expire, "revoke": revoke, "settings": set_up, "redirect_uri": redirect_uri}

if __name__ == "__main__":
    seed()
    serve(Counted(get_wsgi_application(), token="/o/token/", revoke="/o/revoke_token/", controls=controls))
