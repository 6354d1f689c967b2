"""Paths that are percent-encoded find what their decoded segments name."""

from __future__ import annotations

import pytest

from api.app import ROUTES
from api.http.router import MAX_DECODED, Router

ROUTER = Router(ROUTES)
FOLDER = "/api/v1/services/go/"


@pytest.mark.parametrize("segments", [1, MAX_DECODED - 5, MAX_DECODED - 4, MAX_DECODED - 3, 1_000])
def test_a_path_parameter_is_decoded_to_its_end(segments: int) -> None:
    found = ROUTER.find(FOLDER + "/".join(["%41%2F"] * segments))
    assert found is not None
    assert found[1] == {"name": "go", "path": "/".join(["A/"] * segments)}


def test_what_is_encoded_names_the_same_operation() -> None:
    assert ROUTER.find("/%61pi/v1/%74ransactions") == ROUTER.find("/api/v1/transactions")
    assert ROUTER.find("/api%2Fv1/transactions") is None


def test_no_template_but_one_with_a_path_takes_a_thousand_segments() -> None:
    assert ROUTER.find("/%41" * 1_000) is None
    assert ROUTER.find("/api/v1/transactions" + "/%41" * 1_000) is None
