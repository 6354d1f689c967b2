"""The frames of PostgreSQL's messages: whole ones pass however they are cut, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.framing import LONGEST, TYPES, Frames
from tests.support.impostor import message

messages = st.lists(
    st.builds(message, st.sampled_from([bytes([kind]) for kind in sorted(TYPES)]), st.binary(max_size=40)),
    min_size=1, max_size=8,
)  # fmt: skip


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


@given(messages, st.lists(st.integers(0, 400), max_size=12))
def test_messages_pass_in_whatever_pieces_they_come(sent: list[bytes], cuts: list[int]) -> None:
    frames = Frames()
    assert all(frames.accept(piece) for piece in pieces(b"".join(sent), cuts))


@given(messages, st.lists(st.integers(0, 400), max_size=12), st.sampled_from([0, 10, 88, 255]))
def test_a_type_that_is_none_is_found_behind_any_messages(
    sent: list[bytes], cuts: list[int], kind: int
) -> None:
    frames = Frames()
    assert not all(frames.accept(piece) for piece in pieces(b"".join(sent) + bytes([kind]) + bytes(4), cuts))


@pytest.mark.parametrize("length", [-1, 0, 3, LONGEST + 1, 0x7FFF_FFFF])
def test_a_length_that_none_has_is_no_message(length: int) -> None:
    assert not Frames().accept(b"D" + length.to_bytes(4, "big", signed=True))
