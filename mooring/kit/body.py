"""What every JSON body must hold to, whatever its shape: text that each of the databases can keep."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, model_validator


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
