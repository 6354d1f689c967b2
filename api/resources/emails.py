"""E-mail sign-up, on its own path and on the paths of the two Netlify functions that it replaces.

Only these three paths answer errors in the old functions' format, `{"success": false, "error": "..."}` (`failure`). They are
public, callable from every origin, and throttled per caller.
"""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from actors.storage import repo
from api.context import ApiRequest
from api.http.decoder import Decoder
from api.http.errors import ApiError, too_many
from api.http.fields import Email, Name
from api.http.request import JSON_HEADER, Response, encode, json_response
from api.http.router import JSON, ErrorFormat, Routes

routes = Routes("emails")

FORM = "application/x-www-form-urlencoded"
THANKS = "Thank you, your e-mail address is saved"
AGAIN = "Your e-mail address is saved already, thank you"

INSERT = """
INSERT INTO emails (email, name, source) VALUES ($1, $2, $3)
ON CONFLICT (lower(email)) DO NOTHING RETURNING id
"""


class SignUp(msgspec.Struct, frozen=True):
    """The address to save."""

    email: Email
    name: Name | None = None


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The address is saved; `duplicate` is true if it already was."""

    success: bool
    message: str
    duplicate: bool = False


class SubmitError(msgspec.Struct, frozen=True):
    """The error format of the old functions."""

    success: bool
    error: str


_SIGN_UP = Decoder(SignUp, lenient=True)  # the old functions ignored unknown fields


def failure(error: ApiError) -> Response:
    """An error in the old functions' format, which answered 400 for wrong fields."""
    status = 400 if error.status == 422 else error.status
    message = error.detail.message
    if error.detail.fields:
        message = "; ".join(f"{name}: {reason}" for name, reason in error.detail.fields.items())
    return Response(status, encode(SubmitError(False, message)), [JSON_HEADER, *error.headers])


async def submit(request: ApiRequest) -> Response:
    """Saves an address once; the answer for one that is saved already has `duplicate`."""
    wait = request.context.sign_ups.take(request.caller)
    if wait > 0:
        raise too_many(math.ceil(wait))
    body = _read(request)
    new = await repo.pool().fetchval(INSERT, body.email, body.name or "", request.path)
    if new is None:
        return json_response(Accepted(True, AGAIN, True))
    return json_response(Accepted(True, THANKS))


def _read(request: ApiRequest) -> SignUp:
    body: bytes = request.body
    # The old functions parsed JSON whatever its content type, and curl's default content type is a form.
    if request.content_type == FORM and not body.lstrip().startswith(b"{"):
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=50)
        except ValueError:
            raise ApiError(400, "The form is malformed") from None
        given = dict(pairs)
        for name in SignUp.__struct_fields__:
            if sum(each == name for each, _value in pairs) > 1:
                raise ApiError(400, f"The form has the field {name} twice")
        return _SIGN_UP.strings(given)
    if request.content_type not in ("", JSON, FORM, "text/plain") and not request.content_type.endswith(
        "+json"
    ):
        raise ApiError(415, "Send JSON or application/x-www-form-urlencoded")
    return _SIGN_UP.json(body)


def _declare(path: str) -> None:
    contract: dict[str, Any] = {
        "roles": None,
        "responses": {200: Accepted},
        "errors": (415, 429),
        "raw_body": True,
        "body_schema": SignUp,
        "body_types": (JSON, FORM),
        "cors_any": True,
        "error_format": ErrorFormat(SubmitError, failure, 400),
    }
    routes.post(path, summary="Sign up an e-mail address", **contract)(submit)


_declare("/api/v1/emails")
_declare("/.netlify/functions/submit-email")
_declare("/.netlify/functions/submit-email-postgresql")
