"""The description at `/openapi.json` is complete: every route, the format of every moment, examples that fit their schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from api.app import ROUTES
from api.http import openapi
from api.http.router import Operation, Router

OPERATIONS = Router(ROUTES).operations
DOCUMENT = openapi.build(OPERATIONS)


def described(operation: Operation) -> dict[str, Any]:
    path = re.sub(r"\{(\w+):\w+\}", r"{\1}", operation.path)
    return DOCUMENT["paths"][path][operation.method.lower()]


def schemas_of_moments(schema: Any) -> Iterator[dict[str, Any]]:
    """Each property named as a moment is, and that is told as text."""
    if isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            if name.endswith("_at"):
                yield from (choice for choice in part.get("anyOf", [part]) if choice.get("type") == "string")
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from schemas_of_moments(part)


def bodies(part: Any) -> Iterator[dict[str, Any]]:
    """Each content with a schema, by media type."""
    if isinstance(part, dict):
        if "content" in part:
            yield from (body for media, body in part["content"].items() if media == "application/json")
        part = list(part.values())
    if isinstance(part, list):
        for below in part:
            yield from bodies(below)


def test_every_route_is_described() -> None:
    table = {(operation.method.lower(), re.sub(r":\w+\}", "}", operation.path)) for operation in OPERATIONS}
    told = {(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert told == table
    assert ("post", "/admin/drain") in told


def test_every_moment_has_its_format() -> None:
    found = list(schemas_of_moments(DOCUMENT["components"]["schemas"]))
    assert len(found) >= 10
    assert [schema for schema in found if schema.get("format") != "date-time"] == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_every_body_has_examples_that_fit(operation: Operation) -> None:
    for body in bodies(described(operation)):
        examples = (
            [e["value"] for e in body["examples"].values()] if "examples" in body else [body["example"]]
        )
        schema = {**body["schema"], "components": DOCUMENT["components"]}
        for example in examples:
            Draft202012Validator(schema, format_checker=FormatChecker()).validate(example)


def test_a_503_says_what_to_do() -> None:
    for operation in OPERATIONS:
        if operation.error_format is None and 503 not in operation.responses:
            answer = described(operation)["responses"]["503"]
            for code in ("unavailable", "outcome_unknown", "overloaded"):
                assert f"`{code}`" in answer["description"]
                example = answer["content"]["application/json"]["examples"][code]["value"]
                assert example["error"]["code"] == code
