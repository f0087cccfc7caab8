"""How many streams a process has open at once, and how many one person may have.

Whoever waits for a whole text takes a place as well. A place is counted where it is given, before anything is begun
for it, so that of many requests at the same moment no more get one than there are.
"""

import random
import threading
import weakref
from collections import Counter

from django.http import HttpResponseBase
from django.utils.translation import gettext_lazy as _

from web.problems import Problem

# What one process holds without anybody noticing. A person with more streams than tabs is a program gone wrong.
MOST_PLACES = 4000
MOST_PLACES_OF_ONE_PERSON = 20


class Places:
    def __init__(self) -> None:
        self._taken: Counter[int] = Counter()
        # Synchronous views run in threads.
        self._lock = threading.Lock()

    def take(self, user_id: int) -> "Place":
        """Return a place for a person, to be used as a context manager.

        Raises:
            Problem: 503 when there is none, with a time to come back at that differs from client to client, so that
                they do not all come at once.
        """
        with self._lock:
            if self._taken.total() >= MOST_PLACES or self._taken[user_id] >= MOST_PLACES_OF_ONE_PERSON:
                raise Problem(
                    _("There are as many open streams as this server can hold. Try again in a moment."),
                    code="too_many_streams",
                    status=503,
                    retry_after=random.randint(2, 10),  # noqa: S311  # no secret
                )
            self._taken[user_id] += 1
        return Place(self, user_id)

    def release(self, user_id: int) -> None:
        with self._lock:
            self._taken[user_id] -= 1
            if not self._taken[user_id]:
                del self._taken[user_id]


class Place:
    """One open stream, or one request that waits for a whole text, until it is released.

    As a context manager it is released at the end, unless a response keeps it.
    """

    def __init__(self, places: Places, user_id: int) -> None:
        self._places = places
        self._user_id = user_id
        self._is_taken = True
        self._is_kept = False

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *reason: object) -> None:
        if not self._is_kept:
            self.release()

    def keep_for(self, response: HttpResponseBase) -> None:
        """Stay taken until the response is gone. One whose client left too early is never sent, nor closed."""
        self._is_kept = True
        weakref.finalize(response, self.release)

    def release(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._places.release(self._user_id)
