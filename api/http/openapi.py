"""The OpenAPI 3.1 description, generated from the routing table and the types that decode requests and encode responses."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from api.http.content_coding import Representation
from api.http.errors import (
    CODES,
    ApiError,
    ErrorBody,
    database_unavailable,
    outcome_unknown,
    overloaded,
)
from api.http.examples import example
from api.http.fields import CUSTOM
from api.http.request import JSON_HEADER, ApiRequest, Response
from api.http.router import ANYTHING, FLAG, JSON, Operation, Param, ResponseSpec, Routes, parse
from api.version import VERSION

if TYPE_CHECKING:
    from api.http.router import Router

routes = Routes("contract", lane=None)

TEMPLATE = "#/components/schemas/{name}"

PARAM_SCHEMAS: dict[str, dict[str, Any]] = {
    "uuid": {"type": "string", "format": "uuid"},
    "int": {"type": "integer", "minimum": 0},
    "flag": {"type": "string", "pattern": f"^{FLAG.pattern}$"},
    "str": {"type": "string", "minLength": 1},
    "path": {"type": "string"},
}

INTRODUCTION = (
    "Transactions with a ledger, tasks, notifications and users. Sign in at `/api/v1/auth/login`, and send the "
    "token as `Authorization: Bearer <token>`. Errors are an `ErrorBody`; a 422 names each wrong field. "
    "Live updates come over the Phoenix socket at `/socket`."
)

LICENSE = {"name": "All rights reserved", "identifier": "LicenseRef-All-Rights-Reserved"}

TAGS = {
    "health": "Liveness and readiness",
    "auth": "Signing in and out, and the public keys of tokens",
    "users": "User accounts and their roles",
    "emails": "E-mail sign-up, as the two Netlify functions took it",
    "tasks": "Tasks of team members",
    "transactions": "Transactions of a user, each with its ledger entry",
    "ledger": "The ledger's head, and proofs of inclusion and consistency",
    "metrics": "Metrics for Prometheus",
    "notifications": "Notifications of a user: stored, pushed, marked as read",
    "flags": "Feature flags for gradual rollout",
    "services": "Go services behind this API",
    "admin": "The running processes, for operators",
    "contract": "This description",
}

REQUEST_ID = {"schema": {"type": "string"}, "description": "The request's id, as in the server's logs"}

UNAVAILABLE = (  # continues the description of a 503
    ". The code says whether a write may have happened. `unavailable`, `overloaded`: nothing was written; try again after "
    "`Retry-After` seconds. `outcome_unknown`: the result of a write was lost, so it may have been written; repeat it with the "
    "same `Idempotency-Key`, or check before you repeat it. Requests that write nothing can always be repeated."
)

_document = Representation(b"{}", [])


class OpenApiDocument(msgspec.Struct, frozen=True):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]


@routes.get("/openapi.json", summary="This description", roles=None, responses={200: OpenApiDocument})
async def document(request: ApiRequest[Any]) -> Response:
    """The OpenAPI 3.1 document of this API."""
    return _document.response(request.headers)


def describe(router: Router) -> dict[str, Any]:
    """Builds the document of a routing table, and keeps it for `/openapi.json`."""
    global _document
    made = build(router.operations)
    _document = Representation(msgspec.json.encode(made), [JSON_HEADER, (b"cache-control", b"no-cache")])
    return made


def build(operations: list[Operation]) -> dict[str, Any]:
    """The document of these operations."""
    schemas = _Schemas(operations)
    paths: dict[str, Any] = {}
    for operation in operations:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "BitNexus", "version": VERSION, "description": INTRODUCTION, "license": LICENSE},
        "servers": [{"url": "/"}],
        "tags": [
            {"name": tag, "description": TAGS[tag]}
            for tag in dict.fromkeys(operation.tag for operation in operations)
        ],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


class _Schemas:
    """The JSON schemas of all types that the operations use."""

    def __init__(self, operations: list[Operation]) -> None:
        kinds: dict[Any, None] = {ErrorBody: None}
        for operation in operations:
            for kind in _kinds(operation):
                kinds[kind] = None
        made, self.components = msgspec.json.schema_components(
            list(kinds), schema_hook=_custom, ref_template=TEMPLATE
        )
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                self.components[kind.__name__].update(getattr(kind, "SCHEMA", {}))
        self._of = dict(zip(kinds, made, strict=True))
        self.components = {name: _without_titles(schema) for name, schema in self.components.items()}

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type; a reference if the type has a name."""
        return _without_titles(self._of[kind])

    def content(self, kind: Any) -> dict[str, Any]:
        """The Media Type Object of a body of this type: its schema and an example."""
        schema = self.of(kind)
        return {"schema": schema, "example": example(schema, self.components)}


def _kinds(operation: Operation) -> list[Any]:
    kinds: list[Any] = [a.body for a in operation.responses.values() if a.body is not None]
    if operation.body is not None:
        kinds.append(operation.body.kind)
    if operation.body_schema is not None:
        kinds.append(operation.body_schema)
    if operation.error_format is not None:
        kinds.append(operation.error_format.body)
    if operation.query is not None:
        kinds.extend(field.type for field in msgspec.structs.fields(operation.query.kind))
    kinds.extend(kind for kind, _text in operation.request_headers.values())
    return kinds


def _custom(kind: type) -> dict[str, Any]:
    if kind in CUSTOM:
        return dict(kind.SCHEMA)
    raise TypeError(f"no schema for {kind}")


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: _without_titles(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
        }
    if isinstance(schema, list):
        return [_without_titles(value) for value in schema]
    return schema


def _operation(operation: Operation, path: str, schemas: _Schemas) -> dict[str, Any]:
    handler = operation.handler
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()}{path}").strip("_"),
        "summary": operation.summary,
        "description": " ".join((handler.__doc__ or "").split()),
        "tags": [operation.tag],
        "responses": _responses(operation, schemas),
    }
    parameters = _parameters(operation, schemas)
    if parameters:
        described["parameters"] = parameters
    kind = operation.body.kind if operation.body is not None else operation.body_schema
    if kind is not None:
        content = schemas.content(kind)
        described["requestBody"] = {
            # An empty body leaves out all fields, which is valid if all are optional.
            "required": any(field.required for field in msgspec.structs.fields(kind)),
            "content": dict.fromkeys(operation.body_types, content),
        }
    elif operation.raw_body:
        described["requestBody"] = {"required": False, "content": {ANYTHING: {"schema": {}}}}
    if operation.roles is not None:
        described["security"] = [{"bearer": []}, *([{}] if operation.token_optional else [])]
        described["x-roles"] = sorted(operation.roles)
    else:
        described["security"] = []
    return described


def _parameters(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    parameters = [
        {"name": part.name, "in": "path", "required": True, "schema": PARAM_SCHEMAS[part.kind]}
        for part in parse(operation.path)
        if isinstance(part, Param)
    ]
    if operation.query is not None:
        for field in msgspec.structs.fields(operation.query.kind):
            schema = _never_null(schemas.of(field.type))
            described: dict[str, Any] = {"name": field.encode_name, "in": "query", "required": field.required}
            if "description" in schema:
                described["description"] = schema["description"]
            if not field.required and field.default not in (None, msgspec.UNSET, msgspec.NODEFAULT):
                schema = {**schema, "default": field.default}
            parameters.append({**described, "schema": schema})
    for name, (kind, text) in operation.request_headers.items():
        parameters.append(
            {"name": name, "in": "header", "required": False, "description": text, "schema": schemas.of(kind)}
        )
    return parameters


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without null, which a query can't express: such a parameter is left out."""
    choices = schema.get("anyOf")
    if choices is None:
        if isinstance(schema.get("enum"), list):
            return {**schema, "enum": [value for value in schema["enum"] if value is not None]}
        return schema
    left = [choice for choice in choices if choice != {"type": "null"}]
    return left[0] if len(left) == 1 else {**schema, "anyOf": left}


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answered in sorted(operation.responses.items()):
        responses[str(status) if status else "default"] = _answer(status, answered, schemas)
    for status in sorted(errors_of(operation)):
        if str(status) in responses:
            continue
        headers: dict[str, Any] = {"X-Request-Id": REQUEST_ID}
        if status in (429, 503):
            headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds to wait"}
        if status == 401:
            headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
        responses[str(status)] = {
            "description": CODES[status][1],
            "headers": headers,
            "content": {JSON: _error(status, operation, schemas)},
        }
        if status == 503 and operation.error_format is None:
            responses["503"]["description"] += UNAVAILABLE
    return responses


def _error(status: int, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    """The Media Type Object of an error; those in the API's own format have real answers as examples."""
    if operation.error_format is not None:
        return schemas.content(operation.error_format.body)
    schema = schemas.of(ErrorBody)
    if status != 503:
        return {"schema": schema, "example": _body_of(ApiError(status))}
    errors = (database_unavailable(), outcome_unknown(), overloaded())
    return {"schema": schema, "examples": {e.detail.code: {"value": _body_of(e)} for e in errors}}


def _body_of(error: ApiError) -> Any:
    return msgspec.json.decode(error.body())


def errors_of(operation: Operation) -> set[int]:
    """Every error status that an operation may answer with."""
    found = {400, 500, 503, *operation.errors}  # 400: a malformed head
    if operation.roles is not None:
        found |= {401, 403}
    if operation.params:
        found.add(404)
    if operation.query is not None:
        found.add(422)
    if operation.body is not None or operation.raw_body:
        found |= {408, 413}
        if operation.body is not None:
            found.add(415)
        found.add(422 if operation.error_format is None else operation.error_format.wrong_fields)
    if operation.request_headers or operation.takes_no_query:
        found.add(422)
    return found


def _answer(status: int, answered: ResponseSpec, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": answered.description or HTTPStatus(status).phrase,
        "headers": {
            "X-Request-Id": REQUEST_ID,
            **{
                name: {"schema": {"type": "string"}, "description": text}
                for name, text in answered.headers.items()
            },
        },
    }
    if answered.body is not None:
        described["content"] = {answered.content_type: schemas.content(answered.body)}
    elif status != 204:
        schema = {} if answered.content_type == ANYTHING else {"type": "string"}
        described["content"] = {answered.content_type: {"schema": schema}}
    return described
