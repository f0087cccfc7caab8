"""A soak: many learners play at random on real servers while the servers are killed, and then the books are checked.

`make soak` does it for ten minutes on each kind of site; tests/test_soak.py is the same in a few seconds. The seed
repeats what learners, provider and killer choose, not when the machine lets them.
"""

import asyncio
import itertools
import json
import logging
import os
import random
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.author import Author
from tests.conftest import ROOT, SECRET_KEY, Server, ServerStarter, new_tokens
from tests.fake_openai import FakeOpenAI
from tests.learner import Learner
from tests.waiting import run_async, wait_until

logger = logging.getLogger("soak")

# A process that was killed keeps its claims for 15 s; another one looks every 3 s or so, and then writes.
LEASE_AND_A_BIT = 30.0
# Of a process that nobody asks anything. A request that waits for a whole text holds one more.
MOST_THREADS_AT_REST = 20
MOST_DESCRIPTORS_AT_REST = 40
MOST_CONNECTIONS_OF_A_PROCESS = 8
# What a process that leaves politely may take: 5 s, and the rest for a busy machine.
LEAVING_SECONDS = 8.0
# The HTTP server logs an error for each request that it then cuts off.
OUT_OF_TIME = "ERROR uvicorn.error Cancel"
# So many learners see their texts break off when a process ends.
IN_THE_MIDDLE = 3


@dataclass(frozen=True)
class Plan:
    seconds: float
    learners: int
    kill_every: float
    seed: int
    most_thought: float = 0.2
    fault_share: float = 0.03

    @classmethod
    def from_environment(cls) -> "Plan":
        """Give the plan for `SOAK_MINUTES` with `SOAK_SEED`; for a few seconds and at random without them."""
        seed = int(os.environ.get("SOAK_SEED") or secrets.randbelow(10**6))
        minutes = float(os.environ.get("SOAK_MINUTES") or 0)
        if minutes:
            return cls(seconds=minutes * 60, learners=40, kill_every=20, seed=seed, most_thought=3)
        return cls(seconds=8, learners=15, kill_every=8, seed=seed)

    @property
    def is_long(self) -> bool:
        return self.seconds >= 60


@dataclass(frozen=True)
class Sample:
    """What a process held at one moment."""

    second: float
    megabytes: float
    threads: int
    descriptors: int

    @property
    def is_at_rest(self) -> bool:
        return self.threads <= MOST_THREADS_AT_REST and self.descriptors <= MOST_DESCRIPTORS_AT_REST

    @classmethod
    def of(cls, pid: int, *, second: float, database: str) -> "Sample":
        # SQLite keeps the descriptor of its file when it closes a connection, for the next one, as long as another is
        # open: as many as there ever were connections at once. Those that are open show in its write-ahead log.
        process = Path(f"/proc/{pid}")
        descriptors = [os.path.realpath(each) for each in (process / "fd").iterdir()]
        lines = (process / "status").read_text(encoding="ascii").splitlines()
        facts = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        memory = int(facts["VmRSS"].removesuffix(" kB")) / 1024
        return cls(second, memory, int(facts["Threads"]), sum(each != database for each in descriptors))


@dataclass
class Rows:
    """What the database holds of this soak."""

    texts: dict[str, dict[str, Any]] = field(default_factory=dict)
    # The texts that marks come from, apart from the others; each assessment, and how many marks it has.
    markings: dict[str, dict[str, Any]] = field(default_factory=dict)
    assessments: dict[int, dict[str, Any]] = field(default_factory=dict)
    marks: Counter[int] = field(default_factory=Counter)
    submissions: set[int] = field(default_factory=set)
    answers: list[tuple[int, str]] = field(default_factory=list)
    authors: dict[str, str] = field(default_factory=dict)


class Site:
    """The processes of one site, the one database behind them, and the provider."""

    def __init__(
        self,
        start_server: ServerStarter,
        environment: dict[str, str],
        *,
        processes: int,
        connections: Callable[[], int] = lambda: 0,
    ) -> None:
        self.start_server = start_server
        # The learners of a soak ask for more than a person may have in a day.
        no_limits = {"USER_DAILY_TOKEN_BUDGET": "0", "FRESH_STARTS_PER_HOUR": "0"}
        self.environment = environment | {"SECRET_KEY": SECRET_KEY, **no_limits}
        self.connections = connections
        self.servers = [start_server(**self.environment) for _ in range(processes)]
        self.past: list[Server] = []

    @property
    def database(self) -> str:
        """The file of SQLite's database; the empty word with PostgreSQL."""
        url = self.environment["DATABASE_URL"]
        return os.path.realpath(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else ""

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    @property
    def log(self) -> str:
        """What the processes logged until they were out of time to leave, if they were."""
        return "".join(server.log.partition(OUT_OF_TIME)[0] for server in self.past + self.servers)

    def replace(self, place: int, *, by_signal: signal.Signals) -> float:
        """End a process and start another at the same port; the seconds that the end took."""
        old = self.servers[place]
        asked = time.monotonic()
        old.process.send_signal(by_signal)
        old.process.wait(20)
        took = time.monotonic() - asked
        self.past.append(old)
        self.servers[place] = self.start_server(port=old.port, **self.environment)
        return took

    def rows(self) -> Rows:
        models = ["generation.generation", "tasks.submission", "tasks.assessment", "tasks.mark"]
        command = [sys.executable, "manage.py", "dumpdata", *models]
        printed = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, check=True).stdout
        rows = Rows()
        for row in json.loads(printed):
            fields = row["fields"]
            match row["model"]:
                case "generation.generation":
                    of_kind = rows.markings if fields["kind"] == "assessment" else rows.texts
                    of_kind[row["pk"]] = fields
                case "tasks.assessment":
                    rows.assessments[row["pk"]] = fields
                case "tasks.mark":
                    rows.marks[fields["assessment"]] += 1
                case _:
                    rows.submissions.add(row["pk"])
                    rows.answers.append((fields["task"], fields["answer"]))
        rows.authors = self._authors_texts()
        return rows

    def _authors_texts(self) -> dict[str, str]:
        """What is shown where no model wrote, by the text's id."""
        code = (
            "import json; from generation.kinds import kind_of; from generation.models import Generation\n"
            "texts = Generation.objects.filter(source='authored')\n"
            "print('texts', json.dumps({str(text.pk): kind_of(text).fallback(text) for text in texts}))"
        )
        command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
        printed = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, check=True).stdout
        texts: dict[str, str] = json.loads(printed.decode().partition("texts ")[2])
        return texts


class Soak:
    def __init__(self, site: Site, provider: FakeOpenAI, plan: Plan) -> None:
        self.site = site
        self.plan = plan
        self.author = Author(provider, seed=plan.seed, fault_share=plan.fault_share)
        self.learners: list[Learner] = []
        # From when a process was told to end, or killed, to when another could be started.
        self.ends: list[tuple[float, float]] = []
        self.exits: list[float] = []
        self.samples: list[Sample] = []
        self.connections: list[int] = []
        self.earlier = site.rows()
        self.rows = Rows()

    def run(self) -> None:
        """Play until the time is over, let every learner finish, and read the books."""
        logger.info("SOAK_SEED=%s repeats this", self.plan.seed)
        tokens = new_tokens(self.plan.learners, environment=self.site.environment)
        self.began = time.monotonic()
        run_async(self._play(tokens))
        self.ended = time.monotonic()
        self._rest()
        wait_until(self._everything_ended, what="the end of every text", seconds=LEASE_AND_A_BIT)
        logger.info("%s", self)

    def is_over(self) -> bool:
        """Whether the time is over, and one process at least was ended in it, however slow the machine is."""
        return bool(self.ends) and time.monotonic() > self.began + self.plan.seconds

    async def _play(self, tokens: list[str]) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(90)) as session:
            profession = await self._profession(session)
            self.learners = [
                Learner(
                    name=f"learner {number}",
                    token=token,
                    profession=profession,
                    session=session,
                    urls=self.site.urls,
                    author=self.author,
                    random=random.Random(f"{self.plan.seed} learner {number}"),  # noqa: S311  # repeatable, no secret
                    most_thought=self.plan.most_thought,
                )
                for number, token in enumerate(tokens)
            ]
            work = [learner.play(until=self.is_over) for learner in self.learners]
            await asyncio.gather(self._kill(), self._take_samples(), *work)

    async def _profession(self, session: aiohttp.ClientSession) -> int:
        async with session.get(f"{self.site.urls[0]}/api/professions") as response:
            (profession,) = (int(one["id"]) for one in await response.json() if one["slug"] == "nurse")
            return profession

    async def _kill(self) -> None:
        """End one process after the other, mostly without warning; the first is spared towards the end."""
        await asyncio.sleep(self.plan.kill_every / 2)  # half of the pace of the plan, so that short ones have a kill
        for number in itertools.count():
            if not await self._some_are_in_the_middle():
                return
            victims = range(1 if self.ends and self._is_sparing else 0, len(self.site.servers))
            if not victims:
                return
            victim = victims[number % len(victims)]
            by_signal = signal.SIGTERM if number % 3 == 2 else signal.SIGKILL
            told = time.monotonic()
            took = await asyncio.to_thread(self.site.replace, victim, by_signal=by_signal)
            self.ends.append((told, time.monotonic()))
            if by_signal == signal.SIGTERM:
                self.exits.append(took)
            await asyncio.sleep(self.plan.kill_every)  # the pace of the plan

    async def _some_are_in_the_middle(self) -> bool:
        """Wait until an end would hurt; False when the time is over before."""
        while sum(learner.is_in_the_middle for learner in self.learners) < IN_THE_MIDDLE:
            if self.is_over():
                return False
            await asyncio.sleep(0.02)  # between two looks at the condition
        return not self.is_over()

    @property
    def _is_sparing(self) -> bool:
        return time.monotonic() > self.began + self.plan.seconds * 2 / 3

    async def _take_samples(self) -> None:
        while not self.is_over():
            with suppress(FileNotFoundError, ProcessLookupError, KeyError):  # it has just died
                pid = self.site.servers[0].process.pid
                self.samples.append(self._sample(pid))
            self.connections.append(await asyncio.to_thread(self.site.connections))
            await asyncio.sleep(1)  # between two samples

    def _rest(self) -> None:
        """Wait until connections that nobody uses are closed, and see what the processes still hold."""
        pids = [server.process.pid for server in self.site.servers]

        def look() -> bool:
            self.at_rest = [self._sample(pid) for pid in pids]
            return all(sample.is_at_rest for sample in self.at_rest) or not self.plan.is_long

        try:
            # Connections to the provider are kept for another 15 s, which a short test does not wait for.
            wait_until(look, what="processes that let go of everything", seconds=LEASE_AND_A_BIT)
        finally:
            logger.info("at rest: %s", self.at_rest)

    def _sample(self, pid: int) -> Sample:
        return Sample.of(pid, second=time.monotonic() - self.began, database=self.site.database)

    def _everything_ended(self) -> bool:
        rows = self.site.rows()
        earlier = self.earlier.texts.keys()
        self.rows.texts = {key: row for key, row in rows.texts.items() if key not in earlier}
        self.rows.authors = rows.authors
        self.rows.answers = [answer for answer in rows.answers if answer not in self.earlier.answers]
        self.rows.markings = {key: row for key, row in rows.markings.items() if key not in self.earlier.markings}
        self.rows.submissions = rows.submissions - self.earlier.submissions
        own = self.rows.submissions
        self.rows.assessments = {key: row for key, row in rows.assessments.items() if row["submission"] in own}
        self.rows.marks = rows.marks
        still = [row for row in self.rows.markings.values() if row["status"] in {"pending", "running"}]
        return not self._with_status("pending", "running") and not still

    def _with_status(self, *statuses: str) -> dict[str, dict[str, Any]]:
        return {key: row for key, row in self.rows.texts.items() if row["status"] in statuses}

    @property
    def calm(self) -> list[Sample]:
        """Samples of the first process from when nobody ended it any more, without the crowd that came back to it."""
        return [one for one in self.samples if one.second > self.plan.seconds * 0.7] or self.samples

    # The books. Each gives what is wrong, one line for each case.

    def answers_lost_or_stored_twice(self) -> list[str]:
        accepted = Counter(answer for learner in self.learners for answer in learner.accepted.items())
        stored = Counter(self.rows.answers)
        return [
            f"task {task}: {answer!r} accepted {accepted[task, answer]} times, stored {stored[task, answer]} times"
            for task, answer in accepted | stored
            if not accepted[task, answer] == stored[task, answer] == 1
        ]

    def texts_that_nobody_wrote(self) -> list[str]:
        """Completed texts that are not the whole of an answer to their own conversation; others that are no part."""
        return [
            f"{key} is {row['status']} with {row['text']!r}"
            for key, row in self.rows.texts.items()
            if not self._is_what_was_written(key, row)
        ]

    def _is_what_was_written(self, key: str, row: dict[str, Any]) -> bool:
        text = row["text"]
        if row["source"] == "authored":
            authors = self.rows.authors[key]
            return bool(text == authors) or (row["status"] == "cancelled" and authors.startswith(text))
        if row["status"] == "completed" and text not in self.author.whole:
            return False
        return not text or self.author.wrote(text, messages=row["messages"])

    def marks_lost_or_made_up(self) -> list[str]:
        """Answers with another number of assessments in force than one, and assessments with too few or many marks."""
        in_force = Counter(row["submission"] for row in self.rows.assessments.values() if not row["superseded_at"])
        wrong = [f"answer {one}: {in_force[one]} in force" for one in self.rows.submissions if in_force[one] != 1]
        for key, row in self.rows.assessments.items():
            wanted = len(row["rubric"]) if row["status"] == "marked" else 0
            if row["status"] not in {"marked", "not_marked"} or self.rows.marks[key] != wanted:
                wrong.append(f"assessment {key} is {row['status']} with {self.rows.marks[key]} marks")
        return wrong

    def texts_seen_otherwise(self) -> list[str]:
        readings = ((learner, reading) for learner in self.learners for reading in learner.readings)
        return [
            f"{learner.name} saw {reading.text!r} and stored is {stored!r}"
            for learner, reading in readings
            if (stored := self.rows.texts[reading.generation_id]["text"]) != reading.text
        ]

    def calls_without_reason(self) -> list[str]:
        """Texts that the provider was asked for more often than processes, learners and its own faults explain."""
        cancelled = list(itertools.chain.from_iterable(learner.cancelled for learner in self.learners))
        wrong = []
        for key, row in self.rows.texts.items():
            calls = self.author.calls_for(row["messages"])
            reasons = self._ends_between(calls) + cancelled.count(key) + self.author.faults_for(row["messages"])
            if len(calls) > 1 + reasons:
                wrong.append(f"{key}: {len(calls)} calls, {reasons} reasons, epoch {row['epoch']}")
        return wrong

    def _ends_between(self, calls: list[Any]) -> int:
        if not calls:
            return 0
        first, last = calls[0].received_at, calls[-1].received_at
        return sum(told <= last and gone >= first for told, gone in self.ends)

    def errors_logged(self) -> list[str]:
        """Give errors and tracebacks of the servers. That Django calls every 502 and 503 an error is none."""
        told = ("django.request Bad Gateway", "django.request Service Unavailable")
        lines = (line for line in self.site.log.splitlines() if " ERROR " in line or line.startswith("Traceback"))
        return [line for line in lines if not any(one in line for one in told)]

    def what_grew(self) -> list[str]:
        """Compare the second half of the undisturbed time of a process with the first."""
        return list(self._what_grew())

    def _what_grew(self) -> Iterator[str]:
        # PostgreSQL keeps those of a process that was killed for a moment, beside those of the next.
        if max(self.connections) > MOST_CONNECTIONS_OF_A_PROCESS * (len(self.site.servers) + 1):
            yield f"{max(self.connections)} database connections"
        if not self.plan.is_long:
            return
        first, second = self.calm[: len(self.calm) // 2], self.calm[len(self.calm) // 2 :]
        for name, spare in (("megabytes", 8), ("descriptors", 15)):
            before, after = (statistics.median(getattr(one, name) for one in half) for half in (first, second))
            if after > before * 1.03 + spare:
                yield f"{name} from {before:.0f} to {after:.0f}"

    def was_rough(self) -> bool:
        """Whether anything happened that could have lost something."""
        return bool(self.ends) and any(row["epoch"] > 1 for row in self.rows.texts.values())

    def slow_exits(self) -> list[float]:
        return [took for took in self.exits if took > LEAVING_SECONDS]

    def __str__(self) -> str:
        texts, learners = self.rows.texts, self.learners
        statuses = {status: len(self._with_status(status)) for status in ("completed", "cancelled", "failed")}
        return "\n".join(
            [
                f"{self.ended - self.began:.0f} s, seed {self.plan.seed}, {len(learners)} learners, "
                f"{len(self.site.servers)} processes, {len(self.ends)} ended, {len(self.exits)} of them politely",
                f"{sum(learner.reports for learner in learners)} reports, {len(self.rows.answers)} answers, "
                f"{len(texts)} texts {statuses}, {sum(row['epoch'] > 1 for row in texts.values())} begun again",
                f"{sum(map(len, self.author.calls.values()))} provider calls, "
                f"{sum(self.author.faulty.values())} faulty, {sum(learner.breaks for learner in learners)} breaks, "
                f"{sum(learner.withdrawn for learner in learners)} texts withdrawn on a screen, "
                f"longest wait {max(learner.longest_wait for learner in learners):.1f} s",
                *(
                    f"{sample.second:.0f} s: {sample.megabytes:.0f} MB, {sample.threads} threads, "
                    f"{sample.descriptors} descriptors"
                    for sample in (self.calm[0], self.calm[len(self.calm) // 2], self.calm[-1])
                ),
                *(f"at rest: {sample.threads} threads, {sample.descriptors} descriptors" for sample in self.at_rest),
                f"at most {max(self.connections)} database connections",
            ]
        )
