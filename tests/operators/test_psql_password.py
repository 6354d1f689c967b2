"""`bitnexus psql` keeps the password of DATABASE_URL off the command line, wherever in the URL it stands."""

from __future__ import annotations

import pytest

from api.cli.data import split_password


@pytest.mark.parametrize(
    ("url", "without", "password"),
    [
        ("postgresql://ada:secret@db:5432/bank", "postgresql://ada@db:5432/bank", "secret"),
        (
            "postgresql://ada:a%40b%2Fc@one:5432,two:5433/bank",
            "postgresql://ada@one:5432,two:5433/bank",
            "a@b/c",
        ),
        ("postgresql:///bank?host=/run/pg&password=se%20cret", "postgresql:///bank?host=/run/pg", "se cret"),
        ("postgresql://ada:old@db/bank?password=new&user=eve", "postgresql://ada@db/bank?user=eve", "new"),
        ("postgresql://ada@db/ada:secret@db", "postgresql://ada@db/ada:secret@db", None),
        ("postgresql:///bank", "postgresql:///bank", None),
    ],
)
def test_the_password_leaves_the_url(url: str, without: str, password: str | None) -> None:
    assert split_password(url) == (without, password)
