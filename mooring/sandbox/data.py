"""The sandbox's built-in world: companies, credentials, scopes, people. All public and fictitious."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

Employee = dict[str, Any]

SCOPES: dict[str, str] = {
    "profile:read": "See the name of the company",
    "employees:read": "See the employees of the company",
    "employees:write": "Add, change and remove employees",
}
ALL_SCOPES = tuple(SCOPES)


@dataclass(frozen=True)
class Company:
    """One customer of the simulated provider."""

    key: str
    name: str
    account_id: str
    admin: str
    email_domain: str


COMPANIES = {
    "acme": Company("acme", "Acme", "acct_acme", "Ada Berger", "acme.example"),
    "globex": Company("globex", "Globex", "acct_globex", "Grace Okafor", "globex.example"),
}


@dataclass(frozen=True)
class Credential:
    """What a fixed credential opens."""

    company: str
    scopes: tuple[str, ...] = ALL_SCOPES


API_KEYS = {
    "sandbox-key-acme": Credential("acme"),
    "sandbox-key-globex": Credential("globex"),
    "sandbox-key-limited": Credential("acme", ("profile:read",)),
}
BASIC_LOGINS = {
    ("acme-admin", "sandbox-password"): Credential("acme"),
    ("globex-admin", "sandbox-password"): Credential("globex"),
}
SERVICE_USERS = {
    ("SERVICE-1001", "sandbox-service-token"): Credential("acme"),
    ("SERVICE-2002", "sandbox-service-token"): Credential("globex"),
}


@dataclass(frozen=True)
class Client:
    """An OAuth client. `machine_company` is whom the client credentials grant acts for."""

    id: str
    secret: str
    grants: frozenset[str]
    machine_company: str = "acme"


_ALL_GRANTS = frozenset({"authorization_code", "refresh_token", "client_credentials"})
_MACHINE_GRANTS = frozenset({"client_credentials"})

CLIENTS = {
    client.id: client
    for client in (
        Client("sandbox-client", "sandbox-secret", _ALL_GRANTS),
        Client("sandbox-machine", "sandbox-machine-secret", _MACHINE_GRANTS),
        Client("sandbox-machine-globex", "sandbox-machine-globex-secret", _MACHINE_GRANTS, "globex"),
        # reserved characters on purpose: only clients that form-encode inside Basic get in (RFC 6749 §2.3.1)
        Client("sandbox:odd client", "s%2B+e:c/r&é t", _ALL_GRANTS),
    )
}

PEOPLE_PER_COMPANY = 53

_FIRST_NAMES = (
    "Amara", "Bruno", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hana", "Ivo",
    "Jonas", "Keiko", "Lucia", "Mateo", "Nadia", "Oskar", "Priya", "Quentin", "Rosa",
    "Samir", "Tove", "Uma", "Viktor", "Wanda", "Ximena", "Yusuf", "Zofia",
)  # fmt: skip
_LAST_NAMES = (
    "Andersen", "Bianchi", "Castillo", "Dubois", "Eriksen", "Fischer", "Gupta", "Horvat", "Ito",
    "Jansen", "Kowalski", "Lindgren", "Moreau", "Novak", "Okonkwo", "Petrov", "Quispe", "Rossi",
    "Sato", "Tanaka", "Ueda", "Vargas", "Weber", "Xu", "Yilmaz", "Zimmermann",
)  # fmt: skip
_JOBS = (
    ("Engineering", "Software engineer"),
    ("Engineering", "Site reliability engineer"),
    ("Sales", "Account executive"),
    ("People", "Recruiter"),
    ("Finance", "Controller"),
    ("Support", "Support specialist"),
    ("Design", "Product designer"),
)


def employee_id(company: Company, number: int) -> str:
    """Name the id of the n-th employee of a company."""
    return f"emp_{company.key}_{number:03d}"


def people(company: Company) -> dict[str, Employee]:
    """Make the company's 53 employees, the same ones at every start."""
    shift = 0 if company.key == "acme" else 11  # so that the two companies do not look alike
    out: dict[str, Employee] = {}
    for number in range(1, PEOPLE_PER_COMPANY + 1):
        first = _FIRST_NAMES[(number * 7 + shift) % len(_FIRST_NAMES)]
        last = _LAST_NAMES[(number * 5 + number // len(_LAST_NAMES) + shift) % len(_LAST_NAMES)]
        department, job_title = _JOBS[(number + shift) % len(_JOBS)]
        out[employee_id(company, number)] = {
            "id": employee_id(company, number),
            "first_name": first,
            "last_name": last,
            "email": f"{first}.{last}.{number}@{company.email_domain}".lower(),
            "department": department,
            "job_title": job_title,
            "start_date": (date(2018, 1, 8) + timedelta(days=47 * number + shift)).isoformat(),
            "status": "inactive" if number % 13 == 0 else "active",
        }
    return out
