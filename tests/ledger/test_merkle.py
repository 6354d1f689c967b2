"""The Merkle tree against RFC 6962's definition, and against the vectors published with the Certificate Transparency code."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.ledger import merkle
from actors.ledger.merkle import Frontier, Subtree

# The eight inputs, roots and proofs of certificate-transparency's reference test
# (merkletree/merkle_tree_test).
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    bytes.fromhex(text)
    for text in (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
INCLUSION = [  # (leaf, 1-based as published, tree size, path)
    (1, 1, []),
    (1, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"]),
    (6, 8, ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"]),
    (3, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (2, 5, ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"]),
]  # fmt: skip
CONSISTENCY = [
    (1, 1, []),
    (1, 8, ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"]),
    (6, 8, ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"]),
    (2, 5, ["5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"]),
]  # fmt: skip


def by_definition(data: list[bytes]) -> bytes:
    """MTH as section 2.1 writes it."""
    if not data:
        return sha256(b"").digest()
    if len(data) == 1:
        return sha256(b"\x00" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return sha256(b"\x01" + by_definition(data[:k]) + by_definition(data[k:])).digest()


def inclusion_by_definition(index: int, data: list[bytes]) -> list[bytes]:
    if len(data) == 1:
        return []
    k = 1
    while k * 2 < len(data):
        k *= 2
    if index < k:
        return [*inclusion_by_definition(index, data[:k]), by_definition(data[k:])]
    return [*inclusion_by_definition(index - k, data[k:]), by_definition(data[:k])]


def consistency_by_definition(first: int, data: list[bytes], known: bool = True) -> list[bytes]:
    if first == len(data):
        return [] if known else [by_definition(data)]
    k = 1
    while k * 2 < len(data):
        k *= 2
    if first <= k:
        return [*consistency_by_definition(first, data[:k], known), by_definition(data[k:])]
    return [*consistency_by_definition(first - k, data[k:], False), by_definition(data[:k])]


def roots_of(ranges: list[tuple[int, int]], data: list[bytes]) -> list[bytes]:
    return [by_definition(data[start:end]) for start, end in ranges]


def grown(data: list[bytes]) -> Frontier:
    frontier = Frontier()
    for item in data:
        frontier.append(merkle.leaf_hash(item))
    return frontier


def test_published_roots_of_every_size() -> None:
    frontier = Frontier()
    assert frontier.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for data, root in zip(INPUTS, ROOTS, strict=True):
        frontier.append(merkle.leaf_hash(data))
        assert frontier.root() == root


@pytest.mark.parametrize(("leaf", "size", "path"), INCLUSION)
def test_published_inclusion_proofs(leaf: int, size: int, path: list[str]) -> None:
    proof = roots_of(merkle.inclusion_ranges(leaf - 1, size), INPUTS)
    assert [node.hex() for node in proof] == path
    assert merkle.verify_inclusion(merkle.leaf_hash(INPUTS[leaf - 1]), leaf - 1, size, proof, ROOTS[size - 1])


@pytest.mark.parametrize(("first", "second", "path"), CONSISTENCY)
def test_published_consistency_proofs(first: int, second: int, path: list[str]) -> None:
    proof = roots_of(merkle.consistency_ranges(first, second), INPUTS)
    assert [node.hex() for node in proof] == path
    assert merkle.verify_consistency(first, second, ROOTS[first - 1], ROOTS[second - 1], proof)


def test_every_proof_up_to_40_leaves_is_the_definitions() -> None:
    data = [bytes([i]) for i in range(40)]
    roots = [by_definition(data[:size]) for size in range(41)]
    for size in range(1, 41):
        for index in range(size):
            proof = roots_of(merkle.inclusion_ranges(index, size), data)
            assert proof == inclusion_by_definition(index, data[:size])
            assert merkle.verify_inclusion(merkle.leaf_hash(data[index]), index, size, proof, roots[size])
            assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, roots[size])
        for first in range(1, size + 1):
            proof = roots_of(merkle.consistency_ranges(first, size), data)
            assert proof == consistency_by_definition(first, data[:size])
            assert merkle.verify_consistency(first, size, roots[first], roots[size], proof)
            if first < size:
                assert not merkle.verify_consistency(first, size, roots[first - 1], roots[size], proof)
                assert not merkle.verify_consistency(first, size, roots[first], roots[size - 1], proof)


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_frontier_is_the_definition_and_restarts_from_its_hashes(data: list[bytes]) -> None:
    half = grown(data[: len(data) // 2])
    again = Frontier(half.size, half.hashes)
    for item in data[len(data) // 2 :]:
        again.append(merkle.leaf_hash(item))
    assert again.root() == grown(data).root() == by_definition(data)


@given(st.integers(1, 3000), st.data())
def test_ranges_are_unions_of_few_complete_subtrees(size: int, data: st.DataObject) -> None:
    for start, end in merkle.inclusion_ranges(data.draw(st.integers(0, size - 1)), size):
        parts = merkle.subtrees_of(start, end)
        position = start
        for part in parts:
            assert part.index << part.level == position
            position += 1 << part.level
        assert position == end
        assert len(parts) <= size.bit_length()


def test_completed_subtrees_are_reported_once_with_their_hash() -> None:
    data = [i.to_bytes(2, "big") for i in range(300)]
    frontier, completed = Frontier(), []
    for item in data:
        frontier.append(merkle.leaf_hash(item), completed, every=3)
    assert [subtree for subtree, _ in completed if subtree.level == 3] == [Subtree(3, i) for i in range(37)]
    assert [subtree for subtree, _ in completed if subtree.level == 6] == [Subtree(6, i) for i in range(4)]
    for subtree, node in completed:
        start = subtree.index << subtree.level
        assert node == by_definition(data[start : start + (1 << subtree.level)])


def test_a_frontier_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 complete subtrees"):
        Frontier(3, [b"x" * 32])


def test_wrong_positions_are_refused() -> None:
    for index, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(ValueError):
            merkle.inclusion_ranges(index, size)
    for first, second in ((0, 3), (4, 3)):
        with pytest.raises(ValueError):
            merkle.consistency_ranges(first, second)
    assert not merkle.verify_inclusion(b"", 3, 3, [], b"")
    assert not merkle.verify_consistency(0, 3, b"", b"", [])
