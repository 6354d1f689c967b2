"""Examples of JSON values, made from their JSON Schema (the keywords that msgspec and api/http/fields.py produce)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_FORMATS: Mapping[str, str] = {
    "date-time": "2026-01-31T12:00:00Z",
    "decimal": "12.50",
    "email": "ada@example.com",
    "uuid": "0190163d-8694-739b-aea5-966c26f8ad91",
}
_TEXTS = ("text", "new_ui", "0" * 64, "ada@example.com")  # tried in this order until one fits the pattern


def example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """A value that is valid for `schema`, whose references are resolved in `components`.

    An object has all its properties, a mapping has one; a list has one element, or none if the schema is recursive there. Raises
    ValueError if no known text fits a pattern.
    """
    return _example(schema, components, ())


def _example(schema: Mapping[str, Any], components: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _example(components[name], components, (*inside, name))
    if schema.get("default", "") != "":
        return schema["default"]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "const" in schema:
        return schema["const"]
    if "properties" not in schema and "anyOf" in schema:
        return _choice(schema["anyOf"], components, inside)
    match schema.get("type"):
        case "object":
            return _object(schema, components, inside)
        case "array":
            return _array(schema, components, inside)
        case "string":
            return _text(schema)
        case "integer" | "number":
            return max(1, schema.get("minimum", 1)) if schema.get("maximum", 1) >= 1 else schema["maximum"]
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return {}


def _choice(choices: list[Mapping[str, Any]], components: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    """An example of the first choice that is neither null nor recursive."""
    for choice in choices:
        if choice.get("type") != "null" and choice.get("$ref", "").rpartition("/")[2] not in inside:
            return _example(choice, components, inside)
    return None


def _object(schema: Mapping[str, Any], components: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    made = {name: _example(part, components, inside) for name, part in schema.get("properties", {}).items()}
    if not made and schema.get("additionalProperties") not in (None, True, False, {}):
        return {"name": _example(schema["additionalProperties"], components, inside)}
    return made


def _array(schema: Mapping[str, Any], components: Mapping[str, Any], inside: tuple[str, ...]) -> list[Any]:
    if "prefixItems" in schema:
        return [_example(part, components, inside) for part in schema["prefixItems"]]
    items = schema.get("items", {})
    if items.get("$ref", "").rpartition("/")[2] in inside:
        return []
    return [_example(items, components, inside)] * max(1, schema.get("minItems", 1))


def _text(schema: Mapping[str, Any]) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    low, high, pattern = schema.get("minLength", 0), schema.get("maxLength", 100), schema.get("pattern", "")
    for text in _TEXTS:
        longer = (text * (low // len(text) + 1))[:high] if len(text) < low else text[:high]
        if re.search(pattern, longer):
            return longer
    raise ValueError(f"no example fits {pattern}")
