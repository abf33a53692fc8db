"""The first mistake of params.yaml in one sentence."""

from __future__ import annotations

import difflib
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from stages.errors import nearest


def explain(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...] = ()) -> str:
    """Turn pydantic's first complaint into one sentence: where, what, and the nearest valid choices."""
    first = error.errors()[0]
    location = (*prefix, *(str(part) for part in first["loc"]))
    # Union members leave their class name in the location; the user never wrote it.
    shown = ".".join(part for part in location if not part[:1].isupper() and "[" not in part and "constrained" not in part)
    if first["type"] == "extra_forbidden":
        owner: Any = model
        for part in first["loc"][:-1]:
            owner = _field_model(owner, str(part))
        fields = set(owner.model_fields) if owner is not None else set()
        return f"{shown}: there is no such key; {nearest(str(first['loc'][-1]), fields)}"
    if first["type"] == "literal_error":
        wrong, expected = str(first["input"]), str(first["ctx"]["expected"])
        close = difflib.get_close_matches(wrong, re.findall(r"'([^']+)'", expected), n=1)
        return f"{shown}: {wrong!r} is not one of {expected}" + (f"; did you mean {close[0]!r}?" if close else "")
    if first["type"] == "weights_form":
        return f"{shown}: {first['input']!r} {first['msg']}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{shown}: {message}" if shown and not message.startswith(shown) else message


def _field_model(owner: Any, part: str) -> Any:
    """Return the model class of field `part` of `owner`, or of the values when `owner` is a mapping's value model."""
    if owner is None or not hasattr(owner, "model_fields"):
        return owner
    field = owner.model_fields.get(part)
    if field is None:
        return owner
    candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
