"""The `signing` of a `.s1.yaml` authorization, as a `sign` block of the native format."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

_HASHES: Final = {"sha1": "HMAC-SHA1", "sha256": "HMAC-SHA256", "sha512": "HMAC-SHA512"}


class Unsignable(ValueError):
    """The signature is not one that the format has."""


def sign_block(given: Any, credentials: Collection[str] = ()) -> tuple[str, dict[str, Any]]:
    """The algorithm and its values. Texts are expressions of the file, on the credentials that the format names.

    `credentials` are those that the method declares. Raises Unsignable.
    """
    strategy = given.get("strategy") if isinstance(given, dict) else None
    if strategy == "aws4" and isinstance(given.get("service"), str):
        names = {"access_key": "accessKeyId", "secret_key": "secretAccessKey"}
        if "sessionToken" in credentials:
            names["session_token"] = "sessionToken"
        keys = {ours: f"${{credentials.{theirs}}}" for ours, theirs in names.items()}
        return "aws4", {"service": given["service"], **keys, "region": given.get("region") or "${credentials.region}"}
    if strategy == "hmac":
        return "hmac", _hmac(given)
    raise Unsignable("of signed requests the strategies `aws4`, with its `service`, and `hmac` are known")


def _hmac(given: Mapping[str, Any]) -> dict[str, Any]:
    algorithm = str(given.get("algorithm") or "sha256")
    if algorithm not in _HASHES:
        raise Unsignable(f"there is no `algorithm` `{algorithm[:20]}`; there are {', '.join(_HASHES)}")
    out: dict[str, Any] = {
        "secret": "${credentials.secretKey}",
        "signature_method": _HASHES[algorithm],
        "date": "rfc2822" if given.get("dateFormat") == "rfc2822" else "iso8601",
        "host": given.get("includeHost") is True,
        "body": "parameters" if given.get("includeBodyHash") is False else "hash",
    }
    if given.get("outputFormat") == "basic":
        if not given.get("username"):
            raise Unsignable("`outputFormat: basic` needs a `username`")
        return {**out, "username": given["username"]}
    for ours, theirs in (("header", "headerName"), ("prefix", "prefix")):
        if isinstance(given.get(theirs), str):
            out[ours] = given[theirs]
    return out
