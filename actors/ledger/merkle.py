"""The Merkle tree of RFC 6962 (Certificate Transparency), section 2.1, without I/O.

    MTH({})     = SHA-256()
    MTH({d0})   = SHA-256(0x00 || d0)
    MTH(D[n])   = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])), k the largest power of two below n

`Frontier` grows a tree by a leaf at a time and keeps log2(n) hashes. A proof consists of the roots over leaf ranges
(`inclusion_ranges`, `consistency_ranges`), each folded from complete subtrees (`subtrees_of`), so the caller fetches only their
hashes. The verifying functions are what an outsider runs; they follow RFC 9162, sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Subtree(NamedTuple):
    """The complete subtree over leaves [index * 2^level, (index + 1) * 2^level)."""

    level: int
    index: int


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first, one for each bit of its size."""

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            raise ValueError(
                f"a tree of {size} leaves has {size.bit_count()} complete subtrees, not {len(self.hashes)}"
            )

    def copy(self) -> Frontier:
        """An independent frontier of the same tree."""
        return Frontier(self.size, self.hashes)

    def append(
        self, leaf: bytes, completed: list[tuple[Subtree, bytes]] | None = None, every: int = 8
    ) -> None:
        """Add a leaf hash. Complete subtrees of a level divisible by `every` that it finishes go to `completed`."""
        size, level, node, hashes = self.size, 0, leaf, self.hashes
        while size >> level & 1:
            node = sha256(b"\x01" + hashes.pop() + node).digest()
            level += 1
            if completed is not None and level % every == 0:
                completed.append((Subtree(level, size >> level), node))
        hashes.append(node)
        self.size = size + 1

    def root(self) -> bytes:
        """The tree's root hash."""
        return fold(self.hashes)


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over adjacent complete subtrees, largest first."""
    if not hashes:
        return EMPTY_ROOT
    node = hashes[-1]
    for left in reversed(hashes[:-1]):
        node = sha256(b"\x01" + left + node).digest()
    return node


def subtree_root(hashes: bytes) -> bytes:
    """The root of a complete subtree over 2^n hashes, given one after another."""
    pair = 2 * HASH_BYTES
    while len(hashes) > HASH_BYTES:
        hashes = b"".join(
            [sha256(b"\x01" + hashes[at : at + pair]).digest() for at in range(0, len(hashes), pair)]
        )
    return hashes


def subtrees_of(start: int, end: int) -> list[Subtree]:
    """The complete subtrees that make up leaves [start, end), a range that begins at a multiple of its largest one."""
    found: list[Subtree] = []
    while start < end:
        level = (end - start).bit_length() - 1
        found.append(Subtree(level, start >> level))
        start += 1 << level
    return found


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The leaf ranges whose roots are the inclusion proof PATH(index, D[size]), in the proof's order (leaf to root)."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    ranges: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    ranges.reverse()
    return ranges


def consistency_ranges(first: int, second: int) -> list[tuple[int, int]]:
    """The leaf ranges whose roots are the consistency proof PROOF(first, D[second]), in the proof's order."""
    if not 0 < first <= second:
        raise ValueError(f"no consistency proof from {first} to {second}")
    ranges: list[tuple[int, int]] = []
    start, end, known = 0, second, True
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, known = middle, False
    if not known:
        ranges.append((start, end))
    ranges.reverse()
    return ranges


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that this proof leads to; None if it has the wrong length."""
    if not 0 <= index < size:
        return None
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        position >>= 1
        last >>= 1
    return node if last == 0 else None


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that the tree of `size` leaves with this root has the leaf hash `leaf` at `index`."""
    return root_from_inclusion(leaf, index, size, proof) == root


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether `proof` shows that the tree of `first` leaves is a beginning of the tree of `second`."""
    if first == second:
        return not proof and first_root == second_root
    if not 0 < first < second or not proof:
        return False
    path = [first_root, *proof] if first.bit_count() == 1 else list(proof)
    position, last = first - 1, second - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, node)
        position >>= 1
        last >>= 1
    return last == 0 and old == first_root and new == second_root
