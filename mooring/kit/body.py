"""What every JSON body must hold to, whatever its shape: text that each of the databases can keep."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, Strict, model_validator

LARGEST: Final = 2**63 - 1
"""The largest integer that both databases can compare with."""
Flag = Annotated[bool, Strict()]
"""true or false; not 0, 1, "yes" or "off", which the description does not promise."""


def _counted(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")  # noqa: TRY004 - what Pydantic turns into a refusal
    return value


WRITTEN: Final = BeforeValidator(_counted)
Whole = Annotated[int, WRITTEN]
Number = Annotated[float, WRITTEN]
"""Numbers that are written as such: not "1", not true. Bounds stand inside, `Annotated[int, Field(ge=1), WRITTEN]`, or
the description of the API would not show them."""


def _written(value: Any) -> Any:
    if not isinstance(value, datetime | str) or (isinstance(value, str) and "-" not in value.strip()[1:]):
        raise ValueError("must be an ISO 8601 time")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:  # the edge of what a calendar holds, moved over it by an offset
        raise ValueError("must be a time between the years 1 and 9999") from None


def one_of(*values: str) -> dict[str, Any]:
    """What the description says of an optional text of which these are taken; the rule itself stands elsewhere."""
    return {"enum": [*values, None]}


EMAIL: dict[str, Any] = {"pattern": """^[^@\\s<>"',;]{1,64}@[^@\\s<>"',;]{1,189}$"""}


Moment = Annotated[datetime, BeforeValidator(_written), AfterValidator(_in_utc)]
"""A time as ISO 8601, in UTC when it names no offset. Bare numbers, which Pydantic would take, are none."""


class Body(BaseModel):
    """Base of request bodies. Refuses NUL (PostgreSQL keeps none) and halves of surrogate pairs (no UTF-8 has them)."""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        if not is_storable(data):
            raise ValueError("a text holds a NUL character or half a surrogate pair, which can't be stored")
        return data


def is_storable(value: Any) -> bool:
    """Whether all texts of a JSON value, keys included, can be stored."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, dict):
        return all(is_storable(k) and is_storable(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(is_storable, value))
    return True
