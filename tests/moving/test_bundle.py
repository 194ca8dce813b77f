"""The format: what is not exactly what was written does not open, and says why."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from mooring import errors
from mooring.moving import bundle
from tests.moving.moves import PASSPHRASE

HEADER = bundle.Header("mb_test", "2026-01-31T12:00:00.000Z", "Mooring test", hand_over=True)
RECORDS = [{"record": "account", "id": n, "secret": "never in clear " * 3000} for n in range(5)]  # several chunks


def sealed(records: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    writer = bundle.Writer(file, HEADER, PASSPHRASE, cost=1024)
    for record in records:
        writer.write(record)
    writer.close()
    return file.getvalue()


def opened(content: bytes, passphrase: str = PASSPHRASE) -> list[dict[str, Any]]:
    return list(bundle.Reader(io.BytesIO(content), passphrase).records())


@pytest.fixture(scope="module")
def whole() -> bytes:
    return sealed(RECORDS)


def body_of(content: bytes) -> int:
    """Where the first chunk begins."""
    return content.index(b"\n") + 1 + 32


def test_what_was_written_is_read(whole: bytes) -> None:
    reader = bundle.Reader(io.BytesIO(whole), PASSPHRASE)
    assert reader.header == HEADER
    assert list(reader.records()) == RECORDS
    assert list(reader.records()) == RECORDS  # an import reads twice
    assert len(whole) > 3 * bundle.CHUNK and b"never in clear" not in whole


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_last_chunk_of_any_size(more: int) -> None:
    frame = len(orjson.dumps({"x": ""})) + 1
    records = [{"x": "y" * (bundle.CHUNK - frame + more)}]
    assert opened(sealed(records)) == records


def test_two_bundles_of_the_same_records_have_nothing_in_common(whole: bytes) -> None:
    other = sealed(RECORDS)
    assert other[body_of(other) :][:64] != whole[body_of(whole) :][:64]


def test_a_wrong_passphrase_is_told_from_damage(whole: bytes) -> None:
    with pytest.raises(errors.Unprocessable, match="passphrase is wrong") as caught:
        opened(whole, PASSPHRASE + " ")
    assert caught.value.error_code == "BundlePassphraseError"


def test_a_flipped_bit_anywhere_does_not_open(whole: bytes) -> None:
    start = body_of(whole)
    places = [start - 40, start - 1, start, start + bundle.CHUNK + 20, len(whole) - 17, len(whole) - 1]
    for place in places:
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        with pytest.raises(errors.Unprocessable) as caught:
            opened(bytes(spoilt))
        assert caught.value.error_code in {"BundleDamagedError", "BundlePassphraseError", "BundleFormatError"}


def test_a_header_that_was_altered_does_not_open(whole: bytes) -> None:
    with pytest.raises(errors.Unprocessable, match="beginning of the bundle was altered"):
        opened(whole.replace(b'"hand_over":true', b'"hand_over":null', 1))


Cut = Callable[[bytes, int], bytes]
SIZE = bundle.CHUNK + 16
CUTS: dict[str, Cut] = {
    "the last byte": lambda whole, _: whole[:-1],
    "the last chunk": lambda whole, start: whole[: start + (len(whole) - start) // SIZE * SIZE],
    "all but the first chunk": lambda whole, start: whole[: start + SIZE],
    "every chunk": lambda whole, start: whole[:start],
    "the MAC": lambda whole, start: whole[: start - 1],
    "the first of two chunks": lambda whole, start: whole[:start] + whole[start + SIZE :],
    "the order of two chunks": lambda whole, start: (
        whole[:start] + whole[start + SIZE : start + 2 * SIZE] + whole[start : start + SIZE] + whole[start + 2 * SIZE :]
    ),
    "nothing but adds a byte": lambda whole, _: whole + b"\0",
}


@pytest.mark.parametrize("kind", CUTS)
def test_a_cut_file_does_not_open(whole: bytes, kind: str) -> None:
    with pytest.raises(errors.Unprocessable):
        opened(CUTS[kind](whole, body_of(whole)))


def test_a_file_of_a_killed_export_does_not_open() -> None:
    file = io.BytesIO()
    writer = bundle.Writer(file, HEADER, PASSPHRASE, cost=1024)
    for record in RECORDS:
        writer.write(record)  # and no `close`
    with pytest.raises(errors.Unprocessable, match="cut off"):
        opened(file.getvalue())


def with_header(whole: bytes, **changes: Any) -> bytes:
    line, _, rest = whole.partition(b"\n")
    return orjson.dumps({**orjson.loads(line), **changes}) + b"\n" + rest


def test_a_newer_format_says_so(whole: bytes) -> None:
    with pytest.raises(errors.Unprocessable, match="format version 2; this Mooring reads version 1") as caught:
        opened(with_header(whole, version=2))
    assert caught.value.error_code == "BundleFormatError"


KDF = {"name": "scrypt", "salt": "AAAA", "n": 131072, "r": 8, "p": 1}
BOMBS = [{"n": 1 << 40}, {"n": 3}, {"n": 0}, {"r": 1 << 20}, {"p": 1 << 20}, {"salt": "?"}, {"name": "md5"}]


@pytest.mark.parametrize("change", [*({"kdf": {**KDF, **b}} for b in BOMBS), {"chunk": 1 << 40}, {"chunk": 0}])
def test_a_header_cannot_ask_for_all_memory(whole: bytes, change: dict[str, Any]) -> None:
    with pytest.raises(errors.Unprocessable, match="damaged"):
        opened(with_header(whole, **change))


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b'{"format":"other"}\n', b"\x00" * 100, b"x" * 100_000])
def test_what_is_no_bundle_says_so(content: bytes) -> None:
    with pytest.raises(errors.Unprocessable, match="no bundle of Mooring"):
        opened(content)
