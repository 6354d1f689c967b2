"""Passwords and who guesses at them: throttles, the queue of the hashing threads, and the form in which a password counts."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import argon2
import pytest

from api.http.address import caller, canonical
from api.http.errors import ApiError
from api.security import passwords
from api.security.passwords import WAITING_EACH, Passwords, hash_password
from tests.support.server import PASSWORD, Server, User, error_of, wait_until

LOGIN = "/api/v1/auth/login"


def test_the_current_password_is_guarded_as_a_sign_in_is(server: Server, user: User) -> None:
    victim = server.user()
    path = f"/api/v1/users/{victim.id}"

    def guess(number: int) -> int:
        body = {"password": "a new password", "current_password": f"guess {number}"}
        return victim.client.patch(path, json=body).status_code

    with ThreadPoolExecutor(30) as threads:
        codes = list(threads.map(guess, range(60)))
        assert codes.count(403) <= 7 and set(codes) <= {403, 429}, codes
    body = {"password": "a new password", "current_password": "no"}
    # A pause may be over on a busy machine; it doubles each time.
    answer = wait_until(lambda: (got := victim.client.patch(path, json=body)).status_code == 429 and got)
    assert error_of(answer, 429) and int(answer.headers["retry-after"]) >= 1
    with server.client() as client:  # and nobody else is kept waiting
        assert client.post(LOGIN, json={"email": user.email, "password": PASSWORD}).status_code == 200


@pytest.mark.parametrize("other", ["İ", "I"])
def test_one_account_is_one_account_however_its_address_is_written(server: Server, other: str) -> None:
    owner = server.user(email=f"ivi{other.encode().hex()}@example.com")
    written = owner.email.replace("i", other)
    with server.client() as client:
        for _ in range(3):  # on a busy machine the pause may be over before the answer
            while client.post(LOGIN, json={"email": owner.email, "password": "wrong"}).status_code != 429:
                pass
            answer = client.post(LOGIN, json={"email": written, "password": PASSWORD})
            if answer.status_code != 200:
                break
        assert answer.status_code in (401, 429), answer.text
        # This database may hold the two for different addresses.
        assert answer.status_code == 429 or other == "İ"


def test_the_characters_of_a_password_are_counted_as_they_are_hashed(admin: User) -> None:
    """Four letters with their accents behind them are four (SP 800-63B: normalized, then counted)."""
    short = "a\u0301" * 4
    for path in ("/api/v1/users", f"/api/v1/users/{admin.id}"):
        asked = {"email": "four@example.com", "password": short, "current_password": PASSWORD}
        method = "PATCH" if path.endswith(admin.id) else "POST"
        error = error_of(admin.client.request(method, path, json=asked), 422)
        assert error["fields"] == {"password": "expected 8 to 1000 characters"}


def test_a_password_is_the_same_however_it_is_composed(server: Server, admin: User) -> None:
    composed, decomposed, wide = (
        "caf\u00e9 pa\u00dfword",
        "cafe\u0301 pa\u00dfword",
        "\uff43\uff41\uff46\u00e9 pa\u00dfword",
    )
    email = "composed@example.com"
    made = admin.client.post("/api/v1/users", json={"email": email, "password": composed})
    assert made.status_code == 201
    with server.client() as client:
        for typed in (composed, decomposed, wide):
            assert client.post(LOGIN, json={"email": email, "password": typed}).status_code == 200


def test_hashes_of_passwords_as_they_were_typed_go_on_working(server: Server) -> None:
    typed = "cafe\u0301 password"
    owner = server.user()
    raw = passwords._HASHER.hash(typed.encode())
    server.execute("UPDATE credentials SET password_hash = $2 WHERE user_id = $1::text::uuid", owner.id, raw)
    with server.client() as client:
        for password in (typed, typed, "caf\u00e9 password"):  # the first sign-in replaces the hash
            assert client.post(LOGIN, json={"email": owner.email, "password": password}).status_code == 200
        assert client.post(LOGIN, json={"email": owner.email, "password": "cafe password"}).status_code == 401


def test_callers_take_turns_at_the_hashing_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    done: list[str] = []

    def slow(stored: str | None, password: str) -> tuple[bool, None]:
        gate.wait(60)
        done.append(password)
        return True, None

    monkeypatch.setattr(passwords, "_check", slow)

    async def main() -> None:
        work = Passwords()
        flood = [asyncio.create_task(work.check(None, "flood", "flood")) for _ in range(90)]
        await asyncio.sleep(0)
        others = [asyncio.create_task(work.check(None, name, name)) for name in ("ada", "grace")]
        await asyncio.sleep(0)
        gone = [task for task in flood if task.done()]
        assert len(gone) == 90 - 2 - WAITING_EACH
        assert all(isinstance(task.exception(), ApiError) for task in gone)
        flood[2].cancel()
        gate.set()
        await asyncio.wait(flood + others)
        work.close()

    asyncio.run(main())
    assert max(done.index("ada"), done.index("grace")) <= 5 and len(done) == 2 + WAITING_EACH - 1 + 2


def test_hashes_take_a_bounded_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of ours, or one of those made with more; and one that needs more is not overtaken for ever."""
    ours, older = hash_password("x" * 8), argon2.PasswordHasher(2, 19_456, 1).hash("x" * 8)
    gates = {name: threading.Event() for name in ("a", "b", "old", "c", "d", "huge")}
    running: set[str] = set()
    most: list[set[str]] = []

    def held(stored: str | None, password: str) -> tuple[bool, None]:
        running.add(password)
        most.append(set(running))
        gates[password].wait(60)
        running.discard(password)
        return True, None

    monkeypatch.setattr(passwords, "_check", held)
    huge = ours.replace("m=7168", "m=100000")

    async def main() -> None:
        work = Passwords()
        stored = {"old": older, "huge": huge}
        tasks = {name: asyncio.create_task(work.check(stored.get(name, ours), name, name)) for name in gates}
        for name, gate in gates.items():
            while name not in running:
                await asyncio.sleep(0.001)
            if name in ("a", "c"):
                continue
            for other in ("a", "c"):
                if other in running:
                    gates[other].set()
            gate.set()
            await tasks[name]
        assert await asyncio.gather(*tasks.values()) == [(True, None)] * len(gates)
        work.close()

    asyncio.run(main())
    assert {"a", "b"} in most and {"c", "d"} in most
    assert all(others == {name} for others in most for name in ("old", "huge") if name in others)


def test_an_account_with_an_older_hash_takes_as_long_as_one_that_there_is_not() -> None:
    """By what the costs say: passes over memory, within a tenth of each other."""
    now = argon2.extract_parameters(hash_password("x" * 8))
    before = argon2.extract_parameters(argon2.PasswordHasher(2, 19_456, 1).hash("x"))
    assert now.time_cost * now.memory_cost == pytest.approx(before.time_cost * before.memory_cost, rel=0.3)
    assert now.memory_cost >= 7168 and now.time_cost >= 5, "OWASP's least"


def test_the_hash_is_of_the_normal_form() -> None:
    assert passwords._check(hash_password("cafe\u0301!!!"), "caf\u00e9!!!") == (True, None)
    assert passwords._check(hash_password("caf\u00e9!!!"), "cafe!!!") == (False, None)
    assert passwords._check(None, "cafe\u0301!!!") == (False, None)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("203.0.113.9", "203.0.113.9:1234"),
        ("203.0.113.9", "::ffff:203.0.113.9"),
        ("203.0.113.9", "[::ffff:203.0.113.9]:80"),
        ("203.0.113.9", " 203.0.113.9"),
        ("2001:db8:1:2::1", "[2001:DB8:1:2::7]:443"),
        ("fe80::1", "fe80::2%eth0"),
    ],
)
def test_one_caller_whatever_the_address_is_dressed_in(one: str, another: str) -> None:
    assert caller(one) == caller(another)


def test_callers_differ_where_sites_do() -> None:
    assert caller("2001:db8:1:2::1") != caller("2001:db8:1:3::1")
    assert caller("203.0.113.9") != caller("203.0.113.8")
    assert canonical("[2001:DB8::1]:443") == "2001:db8::1" and canonical("unknown") == "unknown"
