"""Amounts: the decimals of each currency, numbers that are never rounded, and a schema that says what the server does."""

from __future__ import annotations

import difflib
import json
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from actors import settings as settings_module
from api.http.decoder import MAX_EXPLAINED, Decoder
from api.http.errors import ApiError
from api.http.fields import Amount, Currency
from api.resources.transactions import NewTransaction
from schema.currencies import CODES, DECIMALS, FOR_TESTS, decimals
from tests.support.server import Server, User, error_of

PATH = "/api/v1/transactions"
DECODER = Decoder(NewTransaction)
SCHEMA = Draft202012Validator(dict(Amount.SCHEMA))


def posted(user: User, text: str, currency: str = "EUR") -> Any:
    """The answer to an amount that is written just so."""
    body = f'{{"amount": {text}, "currency": "{currency}"}}'
    return user.client.post(PATH, content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("currency", "amount", "stored"),
    [
        ("JPY", '"150"', "150"), ("JPY", "150", "150"), ("JPY", "150.0", "150"), ("KRW", "1e3", "1000"),
        ("KWD", '"1.234"', "1.234"), ("BHD", '"0.005"', "0.005"), ("BHD", "0.005", "0.005"), ("KWD", '"1"', "1.000"),
        ("CLF", '"1.2345"', "1.2345"), ("UYW", "0.0001", "0.0001"), ("EUR", '"1.5"', "1.50"), ("CHF", "0.05", "0.05"),
        ("EUR", "0.56999999999999995", "0.57"), ("EUR", "0.070000000000000007", "0.07"), ("EUR", "12.340000", "12.34"),
        ("EUR", "9999999999999999", "9999999999999999.00"), ("EUR", "-9999999999999999.99", "-9999999999999999.99"),
    ],
)  # fmt: skip
def test_an_amount_has_the_decimals_of_its_currency(
    server: Server, user: User, currency: str, amount: str, stored: str
) -> None:
    answer = posted(user, amount, currency)
    assert answer.status_code == 201, answer.text
    made = answer.json()["transaction"]
    assert made["amount"] == stored
    assert (
        server.fetchval("SELECT amount::text FROM transactions WHERE id = $1::text::uuid", made["id"])
        == stored
    )
    listed = user.client.get(PATH, params={"limit": 1}).json()["transactions"][0]
    assert listed == {**made, "ledger_seq": answer.json()["ledger"]["seq"]}
    assert user.client.get(f"{PATH}/{made['id']}/verify").json()["verified"] is True


@pytest.mark.parametrize(
    ("currency", "amount", "reason"),
    [
        ("JPY", '"1.50"', "JPY has no decimals"), ("KRW", '"0.50"', "KRW has no decimals"), ("JPY", "1.5", "no decimals"),
        ("KWD", '"1.2345"', "KWD has at most 3 decimals"), ("EUR", '"1.005"', "EUR has at most 2 decimals"),
        ("CLF", '"1.23456"', "at most 4 decimals"), ("EUR", "1000000000000000.009", "decimals"),
        ("EUR", "4503599627370497.999", "decimals"), ("EUR", "0.30000000000000004", "decimals"),
        ("EUR", "1e-400", "decimals"), ("EUR", "1e-1000000000", "decimals"), ("EUR", f"1.{'0' * 3000}1", "decimals"),
        ("EUR", '"99999999999999999999"', "too large"), ("EUR", "99999999999999999999", "too large"),
        ("EUR", "1e400", "too large"), ("EUR", f'"{"9" * 100_000}"', "too large"), ("EUR", "10000000000000000", "too large"),
    ],
)  # fmt: skip
def test_what_is_no_amount_of_its_currency_is_refused_by_name(
    user: User, currency: str, amount: str, reason: str
) -> None:
    error = error_of(posted(user, amount, currency), 422, "validation_failed")
    assert reason in error["fields"]["amount"]


@pytest.mark.parametrize("currency", sorted(FOR_TESTS))
def test_what_is_no_currency_is_for_tests(user: User, currency: str) -> None:
    assert "currency" in error_of(posted(user, '"1"', currency), 422)["fields"]
    settings_module.use(settings_module.load({"BITNEXUS_ENV": "test"}))
    try:
        assert Currency.parse(currency) == currency
    finally:
        settings_module.use(None)


def test_the_database_knows_the_same_decimals(server: Server, user: User) -> None:
    rows = server.fetchval(
        "SELECT jsonb_object_agg(c, currency_decimals(c))::text FROM unnest($1::text[]) AS c", sorted(CODES)
    )
    assert json.loads(rows) == dict(DECIMALS)
    insert = (
        "INSERT INTO transactions (user_id, amount, currency) VALUES ($1::text::uuid, $2::text::numeric, $3) "
        "RETURNING amount::text"
    )
    for amount, currency, stored in (("12.5", "EUR", "12.50"), ("7.00", "JPY", "7"), ("1.5", "KWD", "1.500")):
        assert server.fetchval(insert, user.id, amount, currency) == stored
    for amount, currency in (
        ("1.5", "JPY"),
        ("1.005", "EUR"),
        ("1e16", "EUR"),
        ("NaN", "EUR"),
        ("Infinity", "EUR"),
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            server.fetchval(insert, user.id, amount, currency)


amounts = st.one_of(
    st.decimals(-(10**17), 10**17, places=6, allow_nan=False).map(str),
    st.from_regex(r"-?[0-9]{1,18}(\.[0-9]{1,6})?\n?"),
    st.text(max_size=6),
    st.integers(-(10**17), 10**17),
    st.integers(-(10**9), 10**9).map(lambda cents: cents / 100),
    st.integers(-(10**9), 10**9).map(lambda mills: mills / 1000),
    st.none() | st.booleans() | st.lists(st.integers(), max_size=1),
)


@given(amounts)
@settings(max_examples=2000, deadline=None)
def test_the_schema_accepts_what_the_server_does(value: Any) -> None:
    """Exactly, but for one thing: JSON Schema can't count the decimals of a number, since `multipleOf` reckons in floats."""
    try:
        amount = Amount.parse(value)
    except ValueError as error:
        refused = str(error)
        assert not SCHEMA.is_valid(value) or (isinstance(value, float) and "decimals" in refused)
    else:
        assert SCHEMA.is_valid(value)
        if not isinstance(value, float):
            assert amount == Decimal(value)


@given(
    st.sampled_from(sorted(CODES - FOR_TESTS)), st.integers(-(10**9), 10**9).filter(bool), st.integers(0, 5)
)
@settings(max_examples=500, deadline=None)
def test_numbers_and_strings_count_alike_in_every_currency(currency: str, digits: int, places: int) -> None:
    amount = Decimal(digits).scaleb(-places)
    fits = amount == round(amount, decimals(currency))
    for text in (f'"{amount:f}"', f"{amount:f}", repr(float(amount))):
        body = f'{{"amount": {text}, "currency": "{currency}"}}'.encode()
        written = len(text.strip('"').partition(".")[2]) if text.startswith('"') else 0
        try:
            taken = DECODER.json(body).amount
        except ApiError as error:
            assert not fits or written > decimals(currency), (text, currency, error.detail)
        else:
            assert fits and taken == amount


@pytest.mark.parametrize(
    "body",
    [
        '{"amount": "1.00", "amount": "2.00", "currency": "EUR"}',
        '{"amount": "1.00", "currency": "EUR", "currency": "EUR"}',
        '{"amount": "1.00", "currency": "EUR", "description": ":", "description": ""}',
        '{"amount": "1.00", "currency": "EUR", "\\u0061mount": "1.00"}',
        '{"amount": "1.00", "currency": "EUR", "extra": {"a": 1, "a": 1}}',
        '{"description": "x", "amount": "1.00", "currency": "EUR", "description": "\\u003a"}',
        '{"description": "\\u003A", "amount": "1.00", "amount": "2.00", "currency": "EUR"}',
    ],
)
def test_a_key_that_comes_twice_is_refused(user: User, body: str) -> None:
    answer = user.client.post(PATH, content=body, headers={"content-type": "application/json"})
    error_of(answer, 400, "malformed_json")


def test_colons_in_strings_are_no_keys(user: User) -> None:
    for description in ("a:b::c", "\\u003a"):
        body = (
            f'{{"amount": "1.00", "currency": "EUR", "description": "{description}", "x:y": [{{"z:": ":"}}]}}'
        )
        answer = user.client.post(PATH, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("amout", "amount"),
        ("Amount", "amount"),
        ("curency", "currency"),
        ("userId", "user_id"),
        ("decription", "description"),
        ("desc", "description"),
        ("cur", "currency"),
    ],
)
def test_a_misspelt_field_is_named_with_the_nearest_right_one(user: User, wrong: str, right: str) -> None:
    body = {"amount": "1.00", "currency": "EUR", "x": 1, "note": "passed over, as ever"}
    assert user.client.post(PATH, json=body).status_code == 201
    body.pop(right, None)
    error = error_of(user.client.post(PATH, json={**body, wrong: "EUR"}), 422)
    assert f"did you mean {right}?" in error["fields"][wrong]


@pytest.mark.parametrize("beside", ["Amount", "AMOUNT", "amount ", "a_mount", "userID", "User-Id"])
def test_a_field_in_other_letters_beside_itself_is_refused(user: User, beside: str) -> None:
    body = {"amount": "1.00", "currency": "EUR", "user_id": user.id, beside: "2.00"}
    assert "did you mean" in error_of(user.client.post(PATH, json=body), 422)["fields"][beside]


@pytest.mark.parametrize(
    ("path", "wrong", "said"),
    [
        (PATH, "min_amount", "known parameters"), (PATH, "q", "known parameters"), (PATH, "curency", "did you mean currency?"),
        ("/api/v1/tasks", "teamMember", "did you mean team_member?"), ("/api/v1/notifications", "unred", "unread"),
        ("/api/v1/flags", "enabled", "no query parameters"), ("/api/v1/auth/me", "id", "no query parameters"),
        ("/api/v1/ledger/head", "seq", "no query parameters"),
        ("/api/v1/users", "limits", "did you mean limit?"), ("/api/v1/ledger/consistency", "form", "did you mean from?"),
    ],
)  # fmt: skip
def test_an_unknown_query_parameter_is_named(admin: User, path: str, wrong: str, said: str) -> None:
    error = error_of(admin.client.get(path, params={wrong: "5"}), 422)
    assert said in error["fields"][wrong]


def test_a_query_where_there_is_none_writes_nothing(user: User) -> None:
    body = {"amount": "1.00", "currency": "EUR"}
    before = user.client.get(PATH).json()
    error_of(user.client.post(PATH, params={"dry_run": "1"}, json=body), 422)
    assert user.client.get(PATH).json() == before


@pytest.mark.parametrize(
    "query", ["limit=5&limit=6", "currency=EUR&limit=1&currency=EUR", "limit=1&%6cimit=1"]
)
def test_a_query_parameter_that_comes_twice_is_refused(user: User, query: str) -> None:
    error = error_of(user.client.get(f"{PATH}?{query}"), 422)
    assert set(error["fields"].values()) == {"must be given only once"}


@pytest.mark.parametrize("limit", ["1e1", "5.0", "05", "+5", " 5", "1_0", "٥", "0x5", "", "9" * 5000, "-0"])
def test_a_whole_number_is_written_with_its_digits_alone(user: User, limit: str) -> None:
    assert "limit" in error_of(user.client.get(PATH, params={"limit": limit}), 422)["fields"]


@pytest.mark.parametrize(
    "number", ["1e99999999999999999999", "-1E+99999999999999999999", "1e-99999999999999999999"]
)
@pytest.mark.parametrize("field", ["amount", "x", "description"])
def test_an_exponent_that_nothing_holds_is_no_fault_of_ours(user: User, field: str, number: str) -> None:
    body = {"amount": '"1.00"', "currency": '"EUR"', field: number}
    text = ", ".join(f'"{name}": {value}' for name, value in body.items())
    answer = user.client.post(PATH, content=f"{{{text}}}", headers={"content-type": "application/json"})
    assert answer.status_code == (201 if field == "x" else 422), answer.text


def test_of_thousands_of_unknown_fields_a_few_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def close_matches(name: str, *_others: Any) -> list[str]:
        compared.append(name)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", close_matches)
    body = ", ".join(f'"amoun{number}": 1.5' for number in range(4000))
    with pytest.raises(ApiError):
        Decoder(NewTransaction).json(f"{{{body}}}".encode())
    assert 0 < len(compared) <= MAX_EXPLAINED


def test_a_reason_keeps_the_name_of_its_currency(user: User) -> None:
    error = error_of(user.client.post(PATH, json={"amount": "1", "currency": "XXX"}), 422)
    assert error["fields"]["currency"] == "XXX is not a currency"


def test_the_old_functions_pass_over_what_they_do_not_know(server: Server) -> None:
    with server.client() as client:
        body = {"email": "lenient@example.com", "Name": "x", "emial": "y"}
        assert client.post("/api/v1/emails", json=body).status_code == 200


def test_a_flag_of_another_name_says_what_names_may_be(admin: User) -> None:
    answer = admin.client.put("/api/v1/flags/USE_PHOENIX_API", json={"percent": 10})
    assert "use_phoenix_api" in error_of(answer, 422)["fields"]["name"]


def test_a_moment_is_bounded_as_it_is_in_utc(user: User) -> None:
    for due_at in ("0002-01-01T00:00:00+00:01", "9998-12-31T23:59:59-00:01", "0001-12-31T23:59:00-00:02"):
        answer = user.client.post("/api/v1/tasks", json={"title": "x", "due_at": due_at})
        assert "due_at" in error_of(answer, 422)["fields"]
    for due_at in ("0002-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z", "0002-01-01T00:01:00+00:01"):
        made = user.client.post("/api/v1/tasks", json={"title": "x", "due_at": due_at}).json()["task"]
        again = user.client.patch(
            f"/api/v1/tasks/{made['id']}", json={"version": made["version"], "due_at": made["due_at"]}
        )
        assert again.status_code == 200, again.text


FAR = [
    "0002-01-01T00:00:00Z", "1582-10-15T00:00:00Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z",
    "9998-12-30T00:00:00Z",
]  # fmt: skip


def test_lists_show_every_row_once_whenever_it_is_dated(server: Server, user: User, admin: User) -> None:
    at = "unnest($2::text[]) AS at, generate_series(1, 3)"
    mine = "$1::text::uuid"
    for sql in (
        f"INSERT INTO transactions (user_id, amount, currency, inserted_at) SELECT {mine}, 1, 'EUR', at::timestamptz FROM {at}",
        f"INSERT INTO notifications (user_id, title, inserted_at) SELECT {mine}, 'x', at::timestamptz FROM {at}",
        f"INSERT INTO tasks (title, team_member, inserted_at) SELECT 'x', {mine}::text, at::timestamptz FROM {at}",
        f"INSERT INTO users (email, inserted_at) "
        f"SELECT gen_random_uuid() || '@x.co', at::timestamptz FROM {at} WHERE {mine} IS NOT NULL",
    ):
        server.execute(sql, user.id, FAR)
    for path, name, client in (
        (PATH, "transactions", user.client), ("/api/v1/notifications", "notifications", user.client),
        ("/api/v1/tasks", "tasks", user.client), ("/api/v1/users", "users", admin.client),
    ):  # fmt: skip
        for limit in (1, 4):
            seen: list[str] = []
            cursor: str | None = None
            while True:
                answer = client.get(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))
                seen += [row["id"] for row in answer.json()[name]]
                assert len(seen) <= 400, path
                cursor = answer.json()["next_cursor"]
                if cursor is None:
                    break
            own = "user_id" if name in ("transactions", "notifications") else "$1::text::uuid"
            every = server.fetchval(f"SELECT count(*) FROM {name} WHERE {own} = $1::text::uuid", user.id)
            assert len(seen) == len(set(seen)) == every, (path, limit)


@pytest.mark.parametrize("cursor", ["0" * 48, "f" * 48, "7" + "f" * 47, "8" + "0" * 47])
def test_made_up_cursors_name_a_place_too(user: User, cursor: str) -> None:
    assert user.client.get(PATH, params={"cursor": cursor}).status_code == 200


def test_a_page_elsewhere_may_read_what_it_needs(server: Server) -> None:
    with server.client() as client:
        exposed = client.get("/api/v1/flags", headers={"origin": "http://localhost:3000"}).headers
    assert {"idempotency-replayed", "www-authenticate"} <= set(
        exposed["access-control-expose-headers"].split(", ")
    )
