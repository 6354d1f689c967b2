"""The link between two nodes: a sans-IO state machine that makes a fabric's frames a connection.

Promises, to whoever feeds it with frames and time:

* Between `LinkUp` and `LinkDown` every payload sent by one side is given to the other once and in order, or the link goes down: a
  gap, or silence for `ticktime` seconds, ends it. Loss is never silent. A frame that comes again is dropped.
* A frame counts only if its keyed BLAKE2 fits: handshakes by the cluster's key, all else by a key of this one session and
  direction. So frames cannot be made, changed, replayed into another session or mirrored by one who lacks the secret.
* A handshake is three frames: hello (name, creation, nonce), challenge (the other's, over both nonces), answer. If both
  sides say hello at once, the one whose name sorts lower is the one that asks.
* A new session replaces the old one once it is proven by its answer; before that nothing is broken. A hello that somebody
  recorded and sends again proves nothing: it delays no attempt of this side, and no answer to another hello is lost by it.

Source: Erlang's distribution handshake and its tick (`net_kernel`, `dist_util`); the numbering is ours, as fabrics lose.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final

import msgspec

HELLO, CHALLENGE, ANSWER, RESET, DATA, TICK, BYE = b"H", b"C", b"A", b"R", b"D", b"T", b"B"
HANDSHAKES: Final = HELLO + CHALLENGE + ANSWER + RESET
MAC: Final = 16
SESSION: Final = 8
NUMBER: Final = 8
NONCE: Final = 16
SETUP_SECONDS: Final = 7.0  # net_kernel's net_setuptime
PROPOSALS: Final = 16  # hellos whose answer may still come; all but one are of no use to who has not the key

_HEAD: Final = 1 + SESSION + NUMBER
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Send(msgspec.Struct, frozen=True):
    """A frame for the other node."""

    frame: bytes


class LinkUp(msgspec.Struct, frozen=True):
    """The connection is made; the other side is this incarnation of its node."""

    creation: int


class Deliver(msgspec.Struct, frozen=True):
    """A payload of the other side."""

    payload: memoryview


class LinkDown(msgspec.Struct, frozen=True):
    """The connection, or the attempt at one, is over. `reason` is OTP's `nodedown_reason`."""

    reason: str


Event = Send | LinkUp | Deliver | LinkDown


def mac(key: bytes, data: bytes | memoryview) -> bytes:
    """The keyed BLAKE2b."""
    return hashlib.blake2b(data, key=key, digest_size=MAC).digest()


def cluster_key(secret: bytes) -> bytes:
    """The key of handshakes, from the cluster's secret of any length."""
    return hashlib.blake2b(secret, digest_size=32, person=b"nodes.link").digest()


def sealed(key: bytes, kind: bytes, fields: list[Any]) -> bytes:
    """A frame under the cluster's key; `fields` are `[from, to, ...]`."""
    body = kind + _pack(fields)
    return body + mac(key, body)


def read_handshake(key: bytes, frame: bytes) -> list[Any] | None:
    """The fields of an authentic handshake frame, `[from, to, ...]`; None for anything else."""
    body, tag = frame[:-MAC], frame[-MAC:]
    if not hmac.compare_digest(mac(key, body), tag):
        return None
    try:
        fields = _unpack(body[1:])
    except msgspec.DecodeError:
        return None
    return fields if isinstance(fields, list) and len(fields) >= 3 else None


def session_of(frame: bytes) -> bytes:
    """The session that a frame of a connection claims to be of."""
    return frame[1 : 1 + SESSION]


class _Session:
    """Keys and numbers of one connection. The keys are hashes that have taken them in already: a frame's is a copy of one."""

    __slots__ = ("_receive_key", "_send_key", "id", "next_in", "next_out")

    def __init__(self, key: bytes, nonces: bytes, asked: bool) -> None:
        derived = hashlib.blake2b(nonces, key=key, digest_size=64).digest()
        self.id = mac(derived, b"session")[:SESSION]
        ours, theirs = (b"ask", b"answer") if asked else (b"answer", b"ask")
        self._send_key = hashlib.blake2b(key=mac(derived, ours), digest_size=MAC)
        self._receive_key = hashlib.blake2b(key=mac(derived, theirs), digest_size=MAC)
        self.next_out = self.next_in = 1

    def sealed(self, body: bytes) -> bytes:
        """A frame for the other side, with its MAC."""
        digest = self._send_key.copy()
        digest.update(body)
        return body + digest.digest()

    def is_authentic(self, body: memoryview, tag: memoryview) -> bool:
        """Whether a frame of the other side has the MAC that it must have."""
        digest = self._receive_key.copy()
        digest.update(body)
        return hmac.compare_digest(digest.digest(), tag)


class Link:
    """One node's end of its link to `peer`. Times are seconds of the caller's clock.

    Invariants: `session` is the one connection that is up, if any; `asking` is set exactly while our hello is unanswered;
    `proposed` holds sessions that the other side has not proven yet, by our nonce; `answering` says that one of them was
    proposed while no connection was up.
    """

    def __init__(
        self, me: str, creation: int, peer: str, key: bytes, ticktime: float, nonce: Callable[[int], bytes]
    ) -> None:
        self.me, self.creation, self.peer = me, creation, peer
        self.ticktime = ticktime
        self._key = key
        self._nonce = nonce
        self.session: _Session | None = None
        self.asking: bytes | None = None
        self.proposed: dict[bytes, tuple[_Session, int]] = {}
        self.answering = False
        # Of the connection that is up: since when, and what it has carried.
        self.up_at = 0.0
        self.frames_in = self.frames_out = self.bytes_in = self.bytes_out = 0
        self._last_received = self._last_sent = self._asked_at = 0.0

    @property
    def is_up(self) -> bool:
        """True between LinkUp and LinkDown."""
        return self.session is not None

    # ---- the owner's wishes

    @property
    def is_being_made(self) -> bool:
        """True while a handshake is under way that ends in LinkUp or LinkDown; whose hello it was does not matter."""
        return self.session is None and (self.asking is not None or self.answering)

    def connect(self, now: float) -> list[Event]:
        """Says hello, unless the link is up or is being made."""
        if self.session is not None or self.asking is not None:
            return []
        self.asking = self._nonce(NONCE)
        self._asked_at = now
        return [self._handshake(HELLO, self.creation, self.asking)]

    def send(self, payload: bytes, now: float) -> list[Event]:
        """A payload for the other side. The link must be up."""
        return [self._frame(DATA, payload, now)]

    def disconnect(self, now: float) -> list[Event]:
        """Ends the connection, and the other side learns it."""
        if self.session is None:
            return self._give_up("disconnect")
        return [self._frame(BYE, b"", now), *self._end("disconnect")]

    def reject(self) -> list[Event]:
        """Ends the connection since what came over it is of no use."""
        if self.session is None:
            return []
        return [self._reset(self.session), *self._end("connection_closed")]

    def nobody(self) -> list[Event]:
        """The fabric says that the other node takes no frames."""
        if self.session is not None:
            return self._end("connection_closed")
        return self._give_up("connection_closed")

    def tick(self, now: float) -> list[Event]:
        """To be called every quarter of `ticktime`: keeps the link alive, or finds it dead."""
        if self.session is None:
            if self.is_being_made and now - self._asked_at >= SETUP_SECONDS:
                return self._give_up("setup_timeout")
            return []
        if now - self._last_received >= self.ticktime:
            return [self._reset(self.session), *self._end("net_tick_timeout")]
        if now - self._last_sent >= self.ticktime / 4 - 1e-6:
            return [self._frame(TICK, b"", now)]
        return []

    # ---- frames of the other side

    def receive_handshake(self, kind: bytes, fields: list[Any], now: float) -> list[Event]:
        """An authentic handshake frame from `peer` to us, as `read_handshake` gave it."""
        match kind, fields[2:]:
            case b"H", [int(creation), bytes(nonce)]:
                return self._hello(creation, nonce, now)
            case b"C", [int(creation), bytes(nonce), bytes(asked)]:
                return self._challenged(creation, nonce, asked, now)
            case b"A", [bytes(nonce)]:
                return self._answered(nonce, now)
            case b"R", [bytes(session)]:
                if self.session is not None and self.session.id == session:
                    return self._end("connection_closed")
        return []

    def receive(self, frame: bytes, now: float) -> list[Event]:
        """A frame of the session that is up (see `session_of`)."""
        session = self.session
        assert session is not None and session_of(frame) == session.id
        view = memoryview(frame)
        body, tag = view[:-MAC], view[-MAC:]
        if len(frame) < _HEAD + MAC or not session.is_authentic(body, tag):
            return []  # somebody else's: it must not be able to end the connection
        number = int.from_bytes(body[1 + SESSION : _HEAD], "big")
        if number != session.next_in:
            if number < session.next_in:
                return []  # heard already: a fabric that repeats itself, or somebody who recorded it
            return [self._reset(session), *self._end("lost_frames")]
        session.next_in += 1
        self._last_received = now
        self.frames_in += 1
        self.bytes_in += len(frame)
        match frame[:1]:
            case b"D":
                return [Deliver(body[_HEAD:])]
            case b"B":
                return self._end("connection_closed")
        return []

    # ---- the handshake

    def _hello(self, creation: int, nonce: bytes, now: float) -> list[Event]:
        if self.asking is not None and self.me < self.peer:
            return []  # both asked: ours counts, they will answer it
        if self.session is None and not self.is_being_made:
            self._asked_at = now
            self.answering = True
        mine = self._nonce(NONCE)
        session = _Session(
            self._key, self._transcript(self.peer, creation, nonce, self.creation, mine), False
        )
        if len(self.proposed) >= PROPOSALS:
            del self.proposed[next(iter(self.proposed))]
        self.proposed[mine] = (session, creation)
        return [self._handshake(CHALLENGE, self.creation, mine, nonce)]

    def _challenged(self, creation: int, nonce: bytes, asked: bytes, now: float) -> list[Event]:
        if self.asking is None or asked != self.asking:
            return []
        transcript = self._transcript(self.me, self.creation, asked, creation, nonce)
        answer = self._handshake(ANSWER, nonce)
        return [answer, *self._begin(_Session(self._key, transcript, True), creation, now)]

    def _answered(self, nonce: bytes, now: float) -> list[Event]:
        proposed = self.proposed.get(nonce)
        return [] if proposed is None else self._begin(*proposed, now)

    def _begin(self, session: _Session, creation: int, now: float) -> list[Event]:
        before = [] if self.session is None else self._end("connection_closed")
        self.asking = None
        self.answering = False
        self.proposed.clear()
        self.session = session
        self.up_at = self._last_received = self._last_sent = now
        self.frames_in = self.frames_out = self.bytes_in = self.bytes_out = 0
        return [*before, LinkUp(creation)]

    def _transcript(self, asker: str, creation: int, nonce: bytes, other: int, answer: bytes) -> bytes:
        answerer = self.peer if asker == self.me else self.me
        return _pack([asker, creation, nonce, answerer, other, answer])

    def _handshake(self, kind: bytes, *fields: Any) -> Send:
        return Send(sealed(self._key, kind, [self.me, self.peer, *fields]))

    def _reset(self, session: _Session) -> Send:
        # The other side may hear us though we do not hear it: it is not to wait for its own ticks to fail.
        return self._handshake(RESET, session.id)

    # ---- the connection

    def _frame(self, kind: bytes, payload: bytes, now: float) -> Send:
        session = self.session
        assert session is not None
        frame = session.sealed(kind + session.id + session.next_out.to_bytes(NUMBER, "big") + payload)
        session.next_out += 1
        self._last_sent = now
        self.frames_out += 1
        self.bytes_out += len(frame)
        return Send(frame)

    def _end(self, reason: str) -> list[Event]:
        self.session = None
        return [LinkDown(reason)]

    def _give_up(self, reason: str) -> list[Event]:
        was_being_made = self.is_being_made
        self.asking = None
        self.answering = False
        self.proposed.clear()
        return [LinkDown(reason)] if was_being_made else []
