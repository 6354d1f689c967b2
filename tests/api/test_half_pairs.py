"""Text that JSON can hold and UTF-8 can't, half of a UTF-16 pair, where no field is checked for it."""

from __future__ import annotations

import json

import jwt
import pytest

from actors.settings import load
from api.http.decoder import Decoder
from api.http.errors import ApiError
from api.resources.transactions import NewTransaction
from api.security.tokens import InvalidToken, Keyring
from tests.support.server import SECRET

HALF = "\ud800"


@pytest.mark.parametrize("name", [f"amoun{HALF}", f"{HALF}amount", f"am{HALF}unt", HALF])
def test_an_unknown_name_in_a_body(name: str) -> None:
    body = json.dumps({name: "1.00", "currency": "EUR"}).encode()
    with pytest.raises(ApiError) as refused:
        Decoder(NewTransaction).json(body)
    assert refused.value.status == 422
    assert json.loads(refused.value.body())["error"]["fields"] == {"amount": "is missing"}


def test_the_subject_and_the_address_of_a_token() -> None:
    ring = Keyring(load({"SECRET_KEY_BASE": SECRET}))
    claims = {"iss": "bitnexus", "aud": "bitnexus", "iat": 0, "exp": 1 << 37, "role": "service"}
    with pytest.raises(InvalidToken, match="subject"):
        ring.check(jwt.encode({**claims, "sub": HALF}, SECRET))
    assert ring.check(jwt.encode({**claims, "sub": "billing", "email": HALF}, SECRET)).email == ""
