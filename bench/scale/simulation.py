"""A simulation of admission, queue, workers and sweeps, by discrete events.

Messages arrive whatever becomes of earlier ones. Sessions are spread over partitions, and partitions over Redis nodes.
A partition knows its own line and pace, and those of all others as its last sweep has written them, which had read them
up to a second before. An address counts its sessions in one partition, which admits them. What follows from the
product's code is in `rules.py` or is named where it stands; all times inside are milliseconds.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any

from bench.scale.outcome import Outcome
from bench.scale.parts import HELD, IDLE, POSTPONED, READY, Address, Figures, Node, Partition, Plan, Session, Worker
from bench.scale.rules import LINE_EXCESS, PASSED_OVER, expected_wait, published_again, short_wait, unclaimed_wait
from chatbot.sessions.leases import GRACE, LEASE, RENEW
from chatbot.sessions.ledger import FIRST_WAIT, LONGEST_WAIT, SWEEP_INTERVAL, SWEEP_SIZE
from chatbot.sessions.requests import CHECK_AFTER

#: The sweep's key in Redis expires after this share of the interval: ledger.py.
_SWEEP_KEY = SWEEP_INTERVAL * 900
#: For publishing one task of a sweep: what a bare publisher takes, see docs/benchmarks.md.
_PUBLISH = 0.5
#: Until a model that fails has failed, and from there to the promised retry: the first of retries.py.
_FAILS_AFTER, _RETRY = 100.0, 2000.0
#: How long a worker tries to commit while a node is away, at most, and between two attempts: replies.py.
_SETTLE_TIMEOUT, _SETTLE_DELAY = 60_000.0, 1000.0


class Simulation:
    """One run; the same plan and seed give the same outcome."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._nodes = [Node() for _ in range(plan.nodes)]
        self._partitions = [Partition(self._nodes[n % plan.nodes]) for n in range(plan.partitions)]
        addresses = [Address(self._random.choice(self._partitions)) for _ in range(plan.addresses)]
        self._sessions = [
            Session(self._random.choice(self._partitions), addresses[n % plan.addresses]) for n in range(plan.sessions)
        ]
        self._free = deque(self._sessions)
        self._workers = [Worker() for _ in range(plan.workers)]
        self._phases = sorted(self._random.uniform(0, 1000) for _ in self._workers)
        # An entry for each free slot: the worker, and its start that the slot belongs to.
        self._idle: deque[tuple[Worker, int]] = deque()
        self._owed: deque[Session] = deque()
        self._new: deque[Session] = deque()
        self._outcome = Outcome(plan)

    def run(self) -> Outcome:
        plan = self._plan
        for worker in self._workers:
            self._start(worker)
        self._random.shuffle(self._idle)
        self._at(0, self._arrive)
        for node in self._nodes:
            if plan.partitions > 1:
                self._at(self._random.uniform(0, 1000), self._publish_figures, node)
            self._at(self._random.uniform(0, 1000), self._sweep, node)
        for when, many in plan.kills:
            self._at(when * 1000, self._kill, many)
        if plan.lost:
            began, ended = plan.lost
            self._at(began * 1000, self._set_down, self._nodes[0], True)
            self._at(ended * 1000, self._set_down, self._nodes[0], False)
        end = plan.seconds * 1000
        while self._events and self._events[0][0] < end:
            self._now, _, step, arguments = heapq.heappop(self._events)
            step(*arguments)
        self._outcome.finish(self._sessions, self._partitions, self._now)
        return self._outcome

    def _at(self, time: float, step: Callable[..., None], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, step, arguments))

    # Messages

    def _arrive(self) -> None:
        gap = self._random.expovariate(self._plan.rate) if self._plan.poisson else 1 / self._plan.rate
        self._at(self._now + gap * 1000, self._arrive)
        if self._free:
            self._accept(self._free.popleft())
        else:
            self._outcome.starved += 1

    def _accept(self, session: Session) -> None:
        """accept.lua with _admission.lua."""
        partition = session.partition
        if partition.node.down:
            self._outcome.unavailable += 1
            self._free.append(session)
            return
        wait = self._short_wait(session)
        counted, refused = wait is None, False
        if counted:
            wait, refused = self._expected_wait(session.address)
        self._outcome.arrived(self._now, not refused)
        if refused:
            self._free.append(session)
            return
        session.accepted = self._now
        session.first = True
        session.owed = False
        self._ready(session, self._now)
        self._schedule(session, self._now + CHECK_AFTER + 2 * int(wait or 0))
        if counted:
            session.address.line[session] = self._now
        partition.accepted += 1
        self._new.append(session)
        self._dispatch()

    def _expected_wait(self, address: Address) -> tuple[float | None, bool]:
        """admit.lua, or the part of accept.lua: decided where the address's line is."""
        partition, now = address.partition, self._now
        if partition.node.down:
            # A Redis that is away limits no address.
            return 0.0, False
        line, claims, pace, delay = self._line_of(partition)
        if line and self._plan.partitions > 1:
            while address.line and (first := next(iter(address.line.items())))[1] < now - delay - LINE_EXCESS:
                del address.line[first[0]]
        return expected_wait(line, len(address.line), claims, pace, self._plan.bound * 1000, delay)

    def _short_wait(self, session: Session) -> float | None:
        """accept.lua, where the address's line is elsewhere; None where that partition decides."""
        if session.partition is session.address.partition:
            return None
        line, claims, pace, delay = self._line_of(session.partition)
        return short_wait(line, claims, pace, self._plan.bound * 1000, delay)

    def _line_of(self, partition: Partition) -> tuple[int, float, float, float]:
        """What a partition knows of all: sessions that are ready, claims, claims in a millisecond, the queue delay."""
        others, now = partition.others, self._now
        line = partition.line + others.line
        if line == 0:
            partition.pace.at = now
        claims, ms = partition.pace.sums(now)
        delay = max(partition.queue_delay(now), others.delay)
        return line, claims + others.claims, (claims / ms if ms else 0.0) + others.pace, delay

    def _publish_figures(self, node: Node) -> None:
        """ledger.py: what a worker reads of a node each second, for the sweeps of the other partitions."""
        self._at(self._now + 1000, self._publish_figures, node)
        for partition in self._partitions:
            if partition.node is node:
                partition.seen = Figures() if node.down else self._figures(partition)

    def _figures(self, partition: Partition) -> Figures:
        claims, ms = partition.pace.sums(self._now)
        return Figures(partition.line, claims, claims / ms if ms else 0.0, partition.queue_delay(self._now))

    def _write_others(self, node: Node) -> None:
        """sweep.lua"""
        seen = [partition.seen for partition in self._partitions]
        line, claims, pace = sum(f.line for f in seen), sum(f.claims for f in seen), sum(f.pace for f in seen)
        delays = sorted((f.delay for f in seen), reverse=True)
        for partition in self._partitions:
            if partition.node is node:
                own = partition.seen
                delay = delays[1] if own.delay == delays[0] else delays[0]
                partition.others = Figures(line - own.line, claims - own.claims, max(pace - own.pace, 0.0), delay)
                if partition.line + partition.others.line == 0:
                    partition.pace.at = self._now

    def _ready(self, session: Session, since: float) -> None:
        session.state, session.ready = READY, since
        session.partition.line += 1
        session.partition.waiting.append((since, session))

    def _schedule(self, session: Session, due: float) -> None:
        session.due = due
        self._count += 1
        heapq.heappush(session.partition.node.ledger, (due, self._count, session))

    # Workers

    def _start(self, worker: Worker) -> None:
        worker.alive = True
        worker.starts += 1
        worker.recovery = self._plan.recovery_slots
        self._idle.extend([(worker, worker.starts)] * self._plan.slots)

    def _restart(self, worker: Worker) -> None:
        self._start(worker)
        self._dispatch()

    def _dispatch(self) -> None:
        """Workers fetch tasks while they have free slots: owed ones first."""
        idle = self._idle
        while idle and (self._owed or self._new):
            session = (self._owed or self._new).popleft()
            # Another task for the session was faster, or its node is away and the claim fails: see `Ledger.missed`.
            if session.state != READY:
                continue
            if session.partition.node.down:
                session.partition.node.missed.append(session)
                continue
            while idle:
                worker, starts = idle.popleft()
                if worker.alive and worker.starts == starts:
                    self._claim(session, worker, recovery=False)
                    break
            else:
                (self._owed if session.owed else self._new).appendleft(session)

    def _claim(self, session: Session, worker: Worker, *, recovery: bool) -> None:
        """claim.lua."""
        now, partition = self._now, session.partition
        session.state, session.worker, session.claimed, session.recovery = HELD, worker, now, recovery
        session.checks = session.looks = 0
        session.attempt += 1
        partition.line -= 1
        if session.address.partition is partition:
            session.address.line.pop(session, None)
        if partition.line + (partition.others.line if self._plan.common_line else 0) > 0:
            partition.pace.claimed(now)
            if not session.owed:
                partition.node.passed = session.ready
        session.owed = True
        self._outcome.claimed(session, now)
        worker.active.add(session)
        if session.first and self._random.random() < self._plan.failing:
            self._at(now + _FAILS_AFTER, self._fail, session, session.attempt)
        else:
            length = self._plan.reply * max(self._random.gauss(1, self._plan.spread), 0.1)
            self._at(now + length * 1000, self._commit, session, session.attempt, now)
        session.first = False

    def _commit(self, session: Session, attempt: int, since: float) -> None:
        if session.state != HELD or session.attempt != attempt:
            return
        if session.partition.node.down:
            waited = self._now - since - self._plan.reply * 1000
            if waited < _SETTLE_TIMEOUT:
                self._at(
                    self._now + self._random.uniform(0.5, 1) * _SETTLE_DELAY, self._commit, session, attempt, since
                )
            else:
                self._leave(session)
                session.partition.node.dead.add(session)
            return
        self._leave(session)
        session.state = IDLE
        self._outcome.answered(session, self._now)
        self._free.append(session)
        self._dispatch()

    def _fail(self, session: Session, attempt: int) -> None:
        """postpone.lua: the session becomes ready again when the sweep is to find it."""
        if session.state != HELD or session.attempt != attempt or session.partition.node.down:
            return
        self._leave(session)
        session.state, session.promised = POSTPONED, self._now + _RETRY
        self._schedule(session, session.promised)
        self._at(session.promised, self._ready, session, session.promised)
        self._dispatch()

    def _leave(self, session: Session) -> None:
        """Frees the session's slot."""
        worker = session.worker
        assert worker is not None
        worker.active.discard(session)
        if session.recovery:
            worker.recovery += 1
        else:
            self._idle.append((worker, worker.starts))

    def _kill(self, many: int) -> None:
        alive = [worker for worker in self._workers if worker.alive]
        for worker in alive[:many]:
            worker.alive = False
            for session in worker.active:
                session.attempt += 1
                session.struck = self._now
                session.partition.node.dead.add(session)
            worker.active.clear()
            self._at(self._now + self._plan.restart * 1000, self._restart, worker)

    def _set_down(self, node: Node, down: bool) -> None:
        node.down = down

    # Recovery

    def _sweep(self, node: Node) -> None:
        """ledger.py, sweep.lua and recovery.py. Each worker process tries once a second, at a moment of its own."""
        self._at(self._next_try(self._now + _SWEEP_KEY), self._sweep, node)
        alive = [worker for worker in self._workers if worker.alive]
        if node.down or not alive:
            return
        if self._plan.partitions > 1:
            self._write_others(node)
        for session in node.missed:
            if session.state == READY:
                self._schedule(session, session.ready)
        node.missed.clear()
        owed, unclaimed, queued = self._overdue(node)
        worker = self._random.choice(alive)
        for session in queued:
            self._answer(session, worker)
        left = [session for session in owed if not self._answer(session, worker)]
        for number, session in enumerate((*left, *unclaimed)):
            queue = self._owed if number < len(left) else self._new
            self._at(self._now + _PUBLISH * number, self._publish, session, queue)

    def _next_try(self, earliest: float) -> float:
        second, phase = divmod(earliest, 1000)
        found = bisect_left(self._phases, phase)
        return (second + found // len(self._phases)) * 1000 + self._phases[found % len(self._phases)]

    def _answer(self, session: Session, worker: Worker) -> bool:
        if worker.recovery == 0 or session.state != READY:
            return session.state != READY
        worker.recovery -= 1
        self._claim(session, worker, recovery=True)
        return True

    def _publish(self, session: Session, queue: deque[Session]) -> None:
        queue.append(session)
        self._dispatch()

    def _overdue(self, node: Node) -> tuple[list[Session], list[Session], list[Session]]:
        owed: list[Session] = []
        unclaimed: list[Session] = []
        queued: list[Session] = []
        for session in self._checked(node):
            if session in node.dead:
                node.dead.discard(session)
                self._ready(session, self._now)
            elif session.due > self._now:
                # Not due, but one of those that the sweep reads.
                self._schedule(session, session.due)
                continue
            wait = float(FIRST_WAIT)
            if session.owed or session.ready < node.passed - PASSED_OVER:
                session.checks += 1
                (owed if published_again(session.checks) else queued).append(session)
            else:
                session.looks += 1
                wait = unclaimed_wait(session.looks, FIRST_WAIT, LONGEST_WAIT)
                unclaimed.append(session)
            self._schedule(session, self._now + wait)
        return owed, unclaimed, queued

    def _checked(self, node: Node) -> list[Session]:
        """The sessions of the node that one sweep reads, by due time: as many as its limit, and up to its horizon."""
        horizon = self._now + LEASE + GRACE
        found: list[tuple[float, int, Session]] = []
        while node.ledger and node.ledger[0][0] <= horizon and len(found) < SWEEP_SIZE:
            due, number, session = heapq.heappop(node.ledger)
            if session.state in (READY, POSTPONED) and session.due == due:
                found.append((due, number, session))
        if node.dead:
            found += [(self._lease_due(s, s.struck or self._now), 0, s) for s in node.dead]
            living = (s for worker in self._workers for s in worker.active if s.partition.node is node)
            found += [(self._lease_due(s, self._now), 0, s) for s in living]
            found.sort(key=lambda entry: entry[:2])
            for due, number, session in found[SWEEP_SIZE:]:
                if session not in node.dead and session.state != HELD:
                    heapq.heappush(node.ledger, (due, number, session))
        return [s for _, _, s in found[:SWEEP_SIZE] if s.state != HELD or s in node.dead]

    def _lease_due(self, session: Session, until: float) -> float:
        """The due time of a session with a lease, which was renewed until then."""
        return session.claimed + (until - session.claimed) // RENEW * RENEW + LEASE + GRACE
