"""The link between two nodes: a sans-IO state machine that turns the frames of a fabric into a reliable connection.

* **Delivery.** Between `LinkUp` and `LinkDown` each payload is delivered once and in order, or the link goes down: a gap in the
  frame numbers, or silence for `ticktime` seconds, ends it. Duplicate frames are dropped.
* **Authentication.** A frame is accepted only with a valid keyed BLAKE2b: under the cluster's key in the handshake, afterwards
  under a key of this session and direction. So without the secret frames cannot be forged, altered, replayed into another
  session or reflected.
* **Handshake.** Three frames: hello (name, creation, nonce), challenge (the same of the other side, over both nonces), answer. If
  both sides send a hello at once, the one whose name sorts lower is the initiator.
* **Replacement.** A new session replaces the old one only when its answer has proven it. A replayed hello proves nothing: it
  neither delays an attempt of this side nor invalidates another hello.

Source: Erlang's distribution handshake and tick (`net_kernel`, `dist_util`). Frame numbers are an addition: fabrics lose frames.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final

import msgspec

HELLO, CHALLENGE, ANSWER, RESET, DATA, TICK, BYE = b"H", b"C", b"A", b"R", b"D", b"T", b"B"
AS_OTHER: Final = b"O"  # what a BYE carries if its receiver counts as the one that ended the connection
HANDSHAKES: Final = HELLO + CHALLENGE + ANSWER + RESET
MAC: Final = 16
SESSION: Final = 8
NUMBER: Final = 8
NONCE: Final = 16
SETUP_SECONDS: Final = 7.0  # net_kernel's net_setuptime
PROPOSALS: Final = 16  # sessions that may still be answered: more than one only if hellos are replayed

_HEAD: Final = 1 + SESSION + NUMBER
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Send(msgspec.Struct, frozen=True):
    """A frame to send to the other node."""

    frame: bytes


class LinkUp(msgspec.Struct, frozen=True):
    """The connection is up; `creation` is the other node's."""

    creation: int


class Deliver(msgspec.Struct, frozen=True):
    """A payload received from the other side."""

    payload: memoryview


class LinkDown(msgspec.Struct, frozen=True):
    """The connection, or the attempt to make it, has ended. `reason` is OTP's `nodedown_reason`."""

    reason: str


Event = Send | LinkUp | Deliver | LinkDown


def mac(key: bytes, data: bytes | memoryview) -> bytes:
    """The keyed BLAKE2b of `data`."""
    return hashlib.blake2b(data, key=key, digest_size=MAC).digest()


def cluster_key(secret: bytes) -> bytes:
    """Derives the key for handshakes from the cluster's secret, which may have any length."""
    return hashlib.blake2b(secret, digest_size=32, person=b"nodes.link").digest()


def sealed(key: bytes, kind: bytes, fields: list[Any]) -> bytes:
    """A frame under the cluster's key; `fields` are `[from, to, ...]`."""
    body = kind + _pack(fields)
    return body + mac(key, body)


def read_handshake(key: bytes, frame: bytes) -> list[Any] | None:
    """The fields of an authentic handshake frame, `[from, to, ...]`; None for any other frame."""
    body, tag = frame[:-MAC], frame[-MAC:]
    if not hmac.compare_digest(mac(key, body), tag):
        return None
    try:
        fields = _unpack(body[1:])
    except msgspec.DecodeError:
        return None
    return fields if isinstance(fields, list) and len(fields) >= 3 else None


def session_of(frame: bytes) -> bytes:
    """The session id in a frame, not authenticated."""
    return frame[1 : 1 + SESSION]


class _Session:
    """Keys and frame numbers of one connection. A key is kept as a keyed hash, which is copied for each frame."""

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
        """True if a frame from the other side has a valid MAC."""
        digest = self._receive_key.copy()
        digest.update(body)
        return hmac.compare_digest(digest.digest(), tag)


class Link:
    """One node's end of its link to `peer`. Times are seconds of the caller's clock.

    Invariants: `session` is the connection that is up, if any; `asking` is the nonce of our hello while it is unanswered;
    `proposed` holds, by our nonce, sessions that the other side has not proven yet; `answering` is True if one of them was
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
        # Statistics of the current connection.
        self.up_at = 0.0
        self.frames_in = self.frames_out = self.bytes_in = self.bytes_out = 0
        self._last_received = self._last_sent = self._asked_at = 0.0

    @property
    def is_up(self) -> bool:
        """True between LinkUp and LinkDown."""
        return self.session is not None

    # ---- the owner's calls

    @property
    def is_being_made(self) -> bool:
        """True during a handshake, begun by either side, that will end in LinkUp or LinkDown."""
        return self.session is None and (self.asking is not None or self.answering)

    def connect(self, now: float) -> list[Event]:
        """Starts a handshake unless the link is up or has sent a hello already."""
        if self.session is not None or self.asking is not None:
            return []
        self.asking = self._nonce(NONCE)
        self._asked_at = now
        return [self._handshake(HELLO, self.creation, self.asking)]

    def send(self, payload: bytes, now: float) -> list[Event]:
        """Sends a payload. The link must be up."""
        return [self._frame(DATA, payload, now)]

    def disconnect(self, now: float, as_other: bool = False) -> list[Event]:
        """Ends the connection and notifies the other side. With `as_other` the other side counts as the one that ended it."""
        if self.session is None:
            return self._give_up("disconnect")
        if as_other:
            return [self._frame(BYE, AS_OTHER, now), *self._end("connection_closed")]
        return [self._frame(BYE, b"", now), *self._end("disconnect")]

    def reject(self) -> list[Event]:
        """Ends the connection because a payload cannot be decoded."""
        if self.session is None:
            return []
        return [self._reset(self.session), *self._end("connection_closed")]

    def unreachable(self) -> list[Event]:
        """The fabric reports that the other node does not receive frames."""
        if self.session is not None:
            return self._end("connection_closed")
        return self._give_up("connection_closed")

    def tick(self, now: float) -> list[Event]:
        """To be called every quarter of `ticktime`: sends a tick, or ends a link that has been silent too long."""
        if self.session is None:
            if self.is_being_made and now - self._asked_at >= SETUP_SECONDS:
                return self._give_up("setup_timeout")
            return []
        if now - self._last_received >= self.ticktime:
            return [self._reset(self.session), *self._end("net_tick_timeout")]
        if now - self._last_sent >= self.ticktime / 4 - 1e-6:
            return [self._frame(TICK, b"", now)]
        return []

    # ---- received frames

    def receive_handshake(self, kind: bytes, fields: list[Any], now: float) -> list[Event]:
        """Handles an authentic handshake frame from `peer`; `fields` are those of `read_handshake`."""
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
        """Handles a frame of the current session (see `session_of`)."""
        session = self.session
        assert session is not None and session_of(frame) == session.id
        view = memoryview(frame)
        body, tag = view[:-MAC], view[-MAC:]
        if len(frame) < _HEAD + MAC or not session.is_authentic(body, tag):
            return []  # forged: it must not end the connection
        number = int.from_bytes(body[1 + SESSION : _HEAD], "big")
        if number != session.next_in:
            if number < session.next_in:
                return []  # a duplicate or a replay
            return [self._reset(session), *self._end("lost_frames")]
        session.next_in += 1
        self._last_received = now
        self.frames_in += 1
        self.bytes_in += len(frame)
        match frame[:1]:
            case b"D":
                return [Deliver(body[_HEAD:])]
            case b"B":
                return self._end("disconnect" if body[_HEAD:] == AS_OTHER else "connection_closed")
        return []

    # ---- the handshake

    def _hello(self, creation: int, nonce: bytes, now: float) -> list[Event]:
        if self.asking is not None and self.me < self.peer:
            return []  # both sent a hello: ours wins, and they will answer it
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

    def _transcript(self, initiator: str, creation: int, nonce: bytes, other: int, answer: bytes) -> bytes:
        responder = self.peer if initiator == self.me else self.me
        return _pack([initiator, creation, nonce, responder, other, answer])

    def _handshake(self, kind: bytes, *fields: Any) -> Send:
        return Send(sealed(self._key, kind, [self.me, self.peer, *fields]))

    def _reset(self, session: _Session) -> Send:
        # The other side may receive our frames though we do not get its: spare it the wait for its own tick timeout.
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
