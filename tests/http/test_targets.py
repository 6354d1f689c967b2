"""Percent-encoding of a target: exact, and linear whatever comes."""

from __future__ import annotations

import time
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.http import target
from runtime.http.target import decoded, is_host


@given(st.text(st.sampled_from("%aAfF09gé/+"), max_size=60))
def test_octets_are_decoded_as_everywhere(text: str) -> None:
    assert decoded(text) == unquote_to_bytes(text.encode("latin-1"))


@pytest.mark.parametrize("text", ["%" * 10_000, "%41" * 3_333, "%4" * 5_000, "a%" * 5_000])
def test_a_long_path_is_decoded_in_milliseconds(text: str) -> None:
    began = time.process_time()
    for _ in range(20):
        decoded(text)
    assert time.process_time() - began < 20 * 0.01


def test_a_long_host_is_refused_and_not_kept() -> None:
    before = target._is_host.cache_info().currsize
    assert not is_host(b"a" * 60_000)
    assert target._is_host.cache_info().currsize == before
