"""A person at a provider's login and consent pages, without a browser."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx

_MAX_STEPS = 25
_NOT_TEXT = ("submit", "checkbox", "button")


@dataclass
class _Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Person:
    texts: Mapping[str, str]  # typed where a form asks for them
    answers: Mapping[str, str]  # sent with every form
    deny: bool


class _Page(HTMLParser):
    """The forms and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[_Form] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(_Form(values.get("action", ""), values.get("method", "get").lower()))
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "input" and self.forms and "name" in values and values.get("type") not in _NOT_TEXT:
            self.forms[-1].fields[values["name"]] = values.get("value", "")


def consent(
    auth_url: str,
    redirect_uri: str,
    *,
    login: str = "jane",
    password: str = "any-password",
    client: httpx.Client | None = None,
    deny: bool = False,
    answers: Mapping[str, str] | None = None,
) -> str:
    """Follow `auth_url` through login and consent; return the URL that the provider redirects back to.

    That URL starts with `redirect_uri` and is not requested. Pass `client` to keep its cookies (a session at
    the provider, a browser binding of ours) across calls. With `deny` the first page that has a cancel link
    is cancelled. `answers` are sent with every form, such as a button that is pressed.
    """
    person = _Person({"login": login, "password": password}, answers or {}, deny)
    if client is not None:
        return _walk(client, auth_url, redirect_uri, person)
    with httpx.Client(timeout=10, trust_env=False) as own:
        return _walk(own, auth_url, redirect_uri, person)


def _walk(client: httpx.Client, auth_url: str, redirect_uri: str, person: _Person) -> str:
    page = client.get(auth_url, follow_redirects=False)
    for _ in range(_MAX_STEPS):
        if page.is_redirect:
            target = urljoin(str(page.url), page.headers["location"])
            if target.startswith(redirect_uri):
                return target
            page = client.get(target, follow_redirects=False)
            continue
        if page.is_error:
            raise RuntimeError(f"the provider answered {page.status_code}: {page.text[:500]}")
        page = _act(client, page, person)
    raise RuntimeError(f"no redirect to {redirect_uri} after {_MAX_STEPS} steps; the last was {page.url}")


def _act(client: httpx.Client, page: httpx.Response, person: _Person) -> httpx.Response:
    """Fill and send the page's first form, or follow its cancel link."""
    parsed = _Page(page.text)
    here = str(page.url)
    if person.deny:
        cancel = [link for link in parsed.links if link.rstrip("/").endswith("/abort")]
        if cancel:
            return client.get(urljoin(here, cancel[0]), follow_redirects=False)
    forms = [form for form in parsed.forms if form.method == "post"]
    if not forms:
        raise RuntimeError(f"no form to send on {here}: {page.text[:500]}")
    filled = {name: person.texts.get(name, value) for name, value in forms[0].fields.items()} | dict(person.answers)
    target = urljoin(here, forms[0].action)
    return client.post(target, data=filled, headers={"Referer": here}, follow_redirects=False)
