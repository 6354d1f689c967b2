"""`/docs`: the API description for people, shown by RapiDoc, with which one can sign in and try operations."""

from __future__ import annotations

from pathlib import Path

from api.context import ApiRequest
from api.http.content_coding import Representation
from api.http.request import Response
from api.http.router import ResponseSpec, Routes
from api.pages.routes import POLICY

routes = Routes("contract", lane=None)

PAGE = Path(__file__).parent / "docs_page" / "index.html"
SCRIPT = Path(__file__).parent / "docs_page" / "docs.js"


@routes.get(
    "/docs",
    summary="This description, for people",
    roles=None,
    responses={200: ResponseSpec(None, "text/html; charset=utf-8", "A page")},
)
async def page(request: ApiRequest) -> Response:
    """The API description as a page."""
    return _response(request, PAGE, b"text/html; charset=utf-8")


@routes.get(
    "/docs/docs.js",
    summary="The script of the page",
    roles=None,
    responses={200: ResponseSpec(None, "text/javascript; charset=utf-8", "A script")},
)
async def script(request: ApiRequest) -> Response:
    """The script of the page `/docs`."""
    return _response(request, SCRIPT, b"text/javascript; charset=utf-8")


def _response(request: ApiRequest, place: Path, kind: bytes) -> Response:
    headers = [
        (b"content-type", kind),
        (b"content-security-policy", POLICY),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    ]
    return Representation(place.read_bytes(), headers).response(request.headers)
