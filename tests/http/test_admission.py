"""Admission by waiting time: a served lane under the test's own clock."""

from __future__ import annotations

import heapq
import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.http.admission import LEAST, LONGEST, Admission


class Lane:
    """A server that takes `seconds` for each piece of work, one after the other, behind an admission."""

    def __init__(self, seconds: float, assumed: float = 1000.0) -> None:
        self.admission = Admission(assumed)
        self.seconds = seconds
        self.free_at = 0.0
        self.inside: deque[tuple[float, str, float]] = deque()  # when it is served, whose, when it came
        self.waits: list[tuple[str, float]] = []

    def advance(self, now: float) -> None:
        while self.inside and self.inside[0][0] <= now:
            served, owner, came = self.inside.popleft()
            self.admission.leave(owner, served)
            self.waits.append((owner, served - came))

    def come(self, owner: str, now: float) -> bool:
        self.advance(now)
        if not self.admission.enter(owner, now):
            return False
        self.free_at = max(self.free_at, now) + self.seconds
        self.inside.append((self.free_at, owner, now))
        return True


@pytest.mark.parametrize(
    ("rate", "assumed"), [(100.0, 150.0), (100.0, 50.0), (3000.0, 4000.0), (3000.0, 1000.0)]
)
@pytest.mark.parametrize("times", [2, 10])
def test_what_is_let_in_waits_about_half_a_second_at_most(rate: float, assumed: float, times: int) -> None:
    lane, accepted = Lane(1 / rate, assumed), 0
    offered = int(10 * rate * times)
    for number in range(offered):
        accepted += lane.come(f"user {number % 50}", number / (rate * times))
    late = [wait for _, wait in lane.waits[len(lane.waits) // 5 :]]
    assert max(late) < 0.6
    assert accepted > 0.9 * 10 * rate  # and the server is never idle


class Batches:
    """A server that takes all that came since it last looked, and `seconds` for each piece and COMMIT for all of them."""

    COMMIT = 0.004

    def __init__(self, seconds: float, assumed: float) -> None:
        self.admission = Admission(assumed)
        self.seconds = seconds
        self.waiting: list[tuple[str, float]] = []
        self.batch: list[tuple[str, float]] = []
        self.served_at = 0.0
        self.waits: list[float] = []

    def come(self, owner: str, now: float) -> bool:
        admitted = self.admission.enter(owner, now)
        if admitted:
            self.waiting.append((owner, now))
        return admitted

    def advance(self, now: float) -> list[str]:
        """The owners of what is served now, if anything is; else it may look for more."""
        if self.batch and self.served_at <= now:
            served, self.batch = self.batch, []
            for owner, came in served:
                self.admission.leave(owner, now)
                self.waits.append(now - came)
            return [owner for owner, _ in served]
        if not self.batch and self.waiting:
            self.batch, self.waiting = self.waiting, []
            self.served_at = now + self.COMMIT + len(self.batch) * self.seconds
        return []

    def clients(self, count: int, since: float, until: float) -> None:
        """So many clients who send again when they are answered."""
        asking = [f"client {number}" for number in range(count)]
        for tick in range(int((until - since) * 1000)):
            now = since + tick / 1000
            asking += self.advance(now)
            asking = [client for client in asking if not self.come(client, now)]


@pytest.mark.parametrize("count", [24, 64])
def test_clients_that_wait_for_batches_show_how_slow_they_are(count: int) -> None:
    """All leave at once and come again, so the lane is empty between; then ten times as much comes."""
    lane = Batches(1 / 500, assumed=13_000)
    lane.clients(count, 0.0, 8.0)
    lane.waits.clear()
    for number in range(40_000):
        now = 8.0 + number / 5_000
        lane.advance(now)
        lane.come(f"user {number % 50}", now)
    assert max(lane.waits) < 1.0
    assert len(lane.waits) > 0.9 * 500 * 8


@pytest.mark.parametrize("count", [4, 20, 64])
def test_clients_that_wait_for_quick_batches_do_not_lower_the_rate(count: int) -> None:
    lane = Batches(1 / 20_000, assumed=13_000)
    lane.clients(count, 0.0, 8.0)
    assert lane.admission.rate == 13_000


def test_work_that_comes_in_batches_raises_the_rate() -> None:
    lane = Batches(1 / 20_000, assumed=2_000)
    lane.clients(64, 0.0, 8.0)
    assert lane.admission.rate > 5_000


def test_below_capacity_nothing_is_refused() -> None:
    dice, lane = random.Random(7), Lane(1 / 1000)
    now = 0.0
    for _ in range(5000):
        now += dice.expovariate(700)
        assert lane.come("only one", now)


def test_a_burst_after_a_quiet_hour_is_let_in() -> None:
    lane = Lane(1 / 3000)
    for second in range(3600):
        assert lane.come("ada", float(second))
    assert sum(lane.come(f"user {number}", 3600.0) for number in range(400)) == 400


def test_one_who_wants_all_leaves_room_for_others() -> None:
    lane, others = Lane(1 / 1000), []
    for number in range(100_000):
        now = number / 10_000
        lane.come("greedy", now)
        if number % 1000 == 0 and now > 1:
            others.append(lane.come("modest", now))
    assert all(others)


def test_who_asks_for_little_does_not_pay_for_a_rate_that_falls() -> None:
    """The server becomes slower by half, and what a greedy one has put in before is more than half a second's work."""
    lane, others = Lane(1 / 1000), []
    for number in range(20_000):
        now = number / 10_000
        if number == 10_000:
            lane.seconds = 1 / 500
        lane.come("greedy", now)
        if number % 500 == 0 and now > 0.5:
            others.append(lane.come("modest", now))
    assert all(others)
    assert max(wait for _, wait in lane.waits) < 1.5 * LONGEST


def test_nothing_is_let_in_while_nothing_is_served() -> None:
    admission = Admission(1000)
    assert sum(admission.enter(number, 0.0) for number in range(100)) == 100
    assert not admission.enter("late", LONGEST + 0.01)
    assert admission.retry_after(3.0) == 3
    for number in range(100):
        admission.leave(number, 4.0)
    assert admission.enter("after it", 4.0)


def test_a_stuck_piece_of_work_does_not_close_the_lane() -> None:
    admission = Admission(1000)
    assert admission.enter("stuck", 0.0)
    for second in range(1, 100):
        assert admission.enter("another", float(second))
        admission.leave("another", second + 0.01)


def test_a_lane_that_was_slow_once_is_believed_again() -> None:
    lane = Lane(1.0)
    for number in range(2000):
        lane.come(f"user {number % 50}", number / 100)
    assert lane.admission.rate < 20
    lane.advance(1e6)
    lane.seconds = 0.001
    assert sum(lane.come(f"user {number}", 1e6) for number in range(300)) == 300


@given(st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 5), st.floats(0.0001, 2.0)), max_size=200))
def test_the_books_balance(events: list[tuple[float, int, float]]) -> None:
    admission, now = Admission(100), 0.0
    inside: list[tuple[float, int]] = []
    for pause, owner, service in events:
        now += pause
        while inside and inside[0][0] <= now:
            served, whose = heapq.heappop(inside)
            admission.leave(whose, served)
        before = admission.waiting
        assert before == len(inside)
        if admission.enter(owner, now):
            heapq.heappush(inside, (now + service, owner))
        elif before < LEAST:
            assert sum(whose == owner for _, whose in inside) >= 4  # its owner's share, nothing else
        assert admission.waiting == len(inside) and admission.rate > 0
        assert 1 <= admission.retry_after(now) <= 30
