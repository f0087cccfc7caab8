"""A learner on a bad line who plays whole simulations and believes nothing that was not shown.

Whatever is shown is compared with what the provider wrote as it arrives: a gap, a repetition or a piece of another
text is noticed at once. It shares no code with the product.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.author import MODELS_BEGINNING, Author

# The lease of a process that died, the sweep that finds it, and a text; several times, because processes die in a row.
PATIENCE_SECONDS = 90.0
# A text ends badly when its learner stops it, which few do, and then it is asked for again.
MOST_ASKS = 20
SILENCE_SECONDS = 30.0  # an open stream says something every 15 s
TRY_AGAIN = {502, 503}
# The HTTP server's own words for what it cuts off when it must leave; the site's 500 is JSON, and never right.
CUT_OFF = (500, "Internal Server Error")


class Lost(AssertionError):
    """Something is not as a learner saw it or was promised it."""


@dataclass(frozen=True)
class Ask:
    """A request for a text."""

    method: str
    path: str
    body: dict[str, str] | None = None
    task_id: int = 0


@dataclass
class Reading:
    """One text as one tab shows it."""

    text: str = ""
    cursor: str = ""
    generation_id: str = ""
    task_id: int = 0
    ending: str = ""
    fault: str = ""
    retryable: bool = False
    ids: set[str] = field(default_factory=set)
    was_open: bool = False

    def begin_again(self) -> None:
        """Reload the page."""
        self.text, self.cursor = "", ""
        self.ids.clear()

    def take(self, event: dict[str, Any]) -> None:
        kind, data = event["type"], event["data"]
        if event["id"] in self.ids and kind != "reconnect":
            raise Lost(f"{event} came twice")
        self.cursor = event["id"]
        self.ids.add(event["id"])
        self.generation_id = data.get("generation_id", self.generation_id)
        match kind:
            case "metadata":
                self.task_id = data["id"]
            case "token" | "report":
                self.text += data["token"]
            case "reset":
                self.text = ""
            case "done" | "completed" | "error":
                self._end(kind, data)

    def _end(self, kind: str, data: dict[str, Any]) -> None:
        self.ending = kind
        if kind == "error":
            self.fault, self.retryable = data["code"], data["retryable"]
            return
        report = data.get("final_report", {})
        self.generation_id = report.get("generation_id", self.generation_id)
        self.task_id = data.get("task_id", self.task_id)
        told = report["text"] if kind == "completed" else data["full_text"]
        if told != self.text:
            raise Lost(f"{self.text!r} was shown and {told!r} was meant")


@dataclass
class Learner:
    name: str
    token: str
    profession: int
    session: aiohttp.ClientSession
    urls: Sequence[str]
    author: Author
    random: random.Random
    most_thought: float
    accepted: dict[int, str] = field(default_factory=dict)
    simulation: int = 0
    cancelled: list[str] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    tabs: list[Reading] = field(default_factory=list)
    reports: int = 0
    breaks: int = 0
    withdrawn: int = 0
    longest_wait: float = 0.0

    @property
    def is_in_the_middle(self) -> bool:
        """Whether a text is growing on this learner's screen."""
        return any(tab.text and not tab.ending for tab in self.tabs)

    @property
    def current(self) -> Ask:
        return Ask("GET", f"/api/tasks/profession/{self.profession}/current/stream")

    async def play(self, *, until: Callable[[], bool]) -> None:
        """Play simulations to their reports until it is time to stop."""
        while not until():
            begun = await self.call("POST", "/api/simulations", {"profession_id": self.profession}, expected=201)
            self.simulation = begun["id"]
            reading = await self.text_of(self.current)
            while reading.ending != "completed":
                await asyncio.sleep(self.random.uniform(0, self.most_thought))  # a learner thinks
                reading = await self.hand_in(reading.task_id)
            self.reports += 1

    async def hand_in(self, task_id: int) -> Reading:
        """Hand in an answer in one of the ways there are, and give the text that follows."""
        answer = f"{self.name} on {task_id}: {self.random.random()}"
        way = self.random.choice([self._streamed, self._streamed, self._clicked_twice, self._whole, self._whole_twice])
        reading = await way(task_id, answer)
        if self.chance(0.1):
            other = await self.call(
                "POST", f"/api/tasks/{task_id}/submit", {"answer": "I meant something else."}, expected=409
            )
            if other["code"] != "already_submitted":
                raise Lost(f"a second answer got {other}")
        if self.chance(0.3):
            await self._look_at_marks(task_id)
        return reading

    async def _look_at_marks(self, task_id: int) -> None:
        """Wait for the marks of an answer, and see that they stay what they are."""
        path = f"/api/tasks/{task_id}/assessment"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (found := await self.call("GET", path))["status"] == "pending":
                await self.breathe()
        again = await self.call("GET", path)
        if again != found:
            raise Lost(f"the marks of {task_id} were {found} and are {again}")

    async def _streamed(self, task_id: int, answer: str, *, may_cancel: bool = True) -> Reading:
        ask = Ask("POST", f"/api/tasks/{task_id}/submit/stream", {"answer": answer}, task_id)
        return await self.text_of(ask, may_cancel=may_cancel)

    async def _clicked_twice(self, task_id: int, answer: str) -> Reading:
        clicks = (self._streamed(task_id, answer, may_cancel=False) for _ in range(2))
        return _one_of_two(*await asyncio.gather(*clicks))

    async def _whole(self, task_id: int, answer: str) -> Reading:
        async with asyncio.timeout(PATIENCE_SECONDS):
            got = await self.call("POST", f"/api/tasks/{task_id}/submit", {"answer": answer})
        self.accepted[task_id] = answer
        if got["completed"]:
            report = got["final_report"]
            reading = Reading(report["text"], generation_id=report["generation_id"], ending="completed")
        else:
            task = got["next_task"]
            reading = Reading(task["question"], generation_id=task["generation_id"], task_id=task["id"], ending="done")
        self.readings.append(reading)
        return reading

    async def _whole_twice(self, task_id: int, answer: str) -> Reading:
        clicks = (self._whole(task_id, answer) for _ in range(2))
        return _one_of_two(*await asyncio.gather(*clicks))

    async def text_of(self, ask: Ask, *, may_cancel: bool = True) -> Reading:
        """Read a text to its end; what failed or was stopped is asked for again, or answered as far as it goes."""
        asked = asyncio.get_running_loop().time()
        for _ in range(MOST_ASKS):
            reading = Reading()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._read(reading, ask, may_cancel=may_cancel)
            except TimeoutError as late:
                raise Lost(f"{self.name} waits for the end of {reading} in vain") from late
            waited = asyncio.get_running_loop().time() - asked
            self.longest_wait = max(self.longest_wait, waited)
            if reading.ending != "error":
                self.readings.append(reading)
                await self._join(reading)
                return reading
            await self._look_at_what_was_kept(reading, alone=may_cancel)
            if reading.fault == "cancelled":
                if reading.text and reading.task_id and self.chance(0.5):
                    self.readings.append(reading)
                    return reading
                # What was stopped stays so, a report as well, until its learner wants another.
                await self.call("POST", f"/api/simulations/{self.simulation}/rewrite")
            ask = self.current
        raise Lost(f"{self.name} asked {MOST_ASKS} times and has {reading}")

    async def _read(self, reading: Reading, ask: Ask, *, may_cancel: bool) -> None:
        self.tabs.append(reading)
        try:
            await self._read_to_the_end(reading, ask, may_cancel=may_cancel)
        finally:
            self.tabs.remove(reading)

    async def _read_to_the_end(self, reading: Reading, ask: Ask, *, may_cancel: bool) -> None:
        while True:
            # A tab that nobody else works in may be stopped; its learner does that after some pieces of the text.
            cancel_after = self.random.randint(1, 15) if may_cancel and self.chance(0.08) else None
            try:
                await self._follow(reading, ask, cancel_after=cancel_after)
            except aiohttp.SocketTimeoutError as silence:
                raise Lost(f"{self.name} heard nothing for {SILENCE_SECONDS} s") from silence
            except (aiohttp.ClientError, ConnectionError):
                pass  # a server died; there is another, or there will be
            if reading.ending:
                return
            self.breaks += 1
            await self.breathe()
            ask = self._way_back(reading, ask)

    def _way_back(self, reading: Reading, ask: Ask) -> Ask:
        ways = [ask]
        if ask.body is None or ask.task_id in self.accepted:
            ways.append(self.current)
        if reading.generation_id:
            ways.append(Ask("GET", f"/api/generations/{reading.generation_id}/stream"))
        # Once for each connection that was there, or while a server starts everybody would reload sooner or later.
        if reading.was_open and self.chance(0.25):
            reading.begin_again()
        reading.was_open = False
        return self.random.choice(ways)

    async def _follow(self, reading: Reading, ask: Ask, *, cancel_after: int | None) -> None:
        """Read one connection until it ends, breaks, or is dropped."""
        drop_after = self.random.randint(1, 20) if self.chance(0.4) else None
        quiet = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_SECONDS)
        async with self._request(ask, cursor=reading.cursor, timeout=quiet) as response:
            if response.status != 200:
                await _refused(response)
                return
            if ask.body is not None:
                self.accepted[ask.task_id] = ask.body["answer"]
            reading.was_open = True
            resumed, number = bool(reading.cursor), 0
            async for event in _events(response):
                number += 1
                if resumed and event["type"] == "metadata":
                    raise Lost("a resumed stream began again")
                self.withdrawn += bool(event["type"] == "reset" and reading.text)
                reading.take(event)
                self._check(reading)
                if reading.ending or number == drop_after:
                    return
                if number == cancel_after and reading.generation_id:
                    await self.cancel(reading.generation_id)

    def _request(self, ask: Ask, *, cursor: str, timeout: aiohttp.ClientTimeout) -> Any:
        by_header = self.chance(0.5)
        headers = {"Authorization": f"Bearer {self.token}"}
        if cursor and by_header:
            headers["Last-Event-ID"] = cursor
        url = self.random.choice(self.urls) + ask.path + (f"?after={cursor}" if cursor and not by_header else "")
        return self.session.request(ask.method, url, json=ask.body, headers=headers, timeout=timeout)

    def _check(self, reading: Reading) -> None:
        """See that what is shown is from one answer of the provider; an author's is compared at the end."""
        is_models = reading.text.startswith(MODELS_BEGINNING)
        if is_models and not self.author.text_beginning(reading.text).startswith(reading.text):
            raise Lost(f"{self.name} was shown what nobody wrote: {reading.text!r}")

    async def cancel(self, generation_id: str) -> None:
        self.cancelled.append(generation_id)
        await self.call("POST", f"/api/generations/{generation_id}/cancel")

    async def _look_at_what_was_kept(self, reading: Reading, *, alone: bool) -> None:
        """See that a text which failed or was stopped is stored as far as it was shown."""
        if not reading.retryable:
            raise Lost(f"{self.name} is told not to try again: {reading}")
        if reading.fault == "cancelled" and reading.generation_id not in self.cancelled:
            raise Lost(f"nobody stopped {reading}")
        if alone:
            row = await self.call("GET", f"/api/generations/{reading.generation_id}")
            status = "cancelled" if reading.fault == "cancelled" else "failed"
            if (row["status"], row["text"]) != (status, reading.text):
                raise Lost(f"{reading} is stored as {row}")

    async def _join(self, reading: Reading) -> None:
        """Now and then open the same text in another tab, or come back to it when nothing is left to be sent."""
        if not self.chance(0.15):
            return
        again = Reading()
        await self._read(again, Ask("GET", f"/api/generations/{reading.generation_id}/stream"), may_cancel=False)
        if again.text != reading.text:
            raise Lost(f"one tab shows {reading.text!r}, the other {again.text!r}")
        await self.call("GET", f"/api/generations/{reading.generation_id}/stream?after={again.cursor}", expected=204)

    async def call(self, method: str, path: str, body: object = None, *, expected: int = 200) -> Any:
        """Make a request that may be repeated, until it is answered."""
        while True:
            url = self.random.choice(self.urls) + path
            headers = {"Authorization": f"Bearer {self.token}"}
            with suppress(aiohttp.ClientError, ConnectionError):
                async with self.session.request(method, url, json=body, headers=headers) as response:
                    if response.status == expected:
                        return await response.json() if expected != 204 else None
                    await _refused(response)
            self.breaks += 1
            await self.breathe()

    async def breathe(self) -> None:
        """Wait as a browser does before it comes back; a server may take seconds to start again."""
        await asyncio.sleep(self.random.uniform(0.05, 0.4))

    def chance(self, share: float) -> bool:
        return self.random.random() < share


async def _refused(response: aiohttp.ClientResponse) -> None:
    """Accept a refusal that a learner may get while servers die; any other is wrong."""
    told = (response.status, await response.text())
    if response.status not in TRY_AGAIN and told != CUT_OFF:
        raise Lost(f"{response.method} {response.url} got {told}")


def _one_of_two(one: Reading, other: Reading) -> Reading:
    if (one.generation_id, one.text) != (other.generation_id, other.text):
        raise Lost(f"the same answer twice led to {one} and to {other}")
    return one


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Give the events of a stream; a frame that was cut off counts as not received."""
    lines: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            lines[name] = value
        elif "data" in lines:
            yield json.loads(lines["data"]) | {"id": lines["id"]}
            lines = {}
        else:
            lines = {}
