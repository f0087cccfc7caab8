"""Database work of code that belongs to no request."""

import asyncio
import threading
from contextlib import suppress

import pytest
from django.db import OperationalError, connections

from generation.offload import offload, offload_ahead
from tests.waiting import run_async


def test_leases_are_renewed_while_everything_else_waits() -> None:
    async def play() -> None:
        goes_on = threading.Event()
        waiting = [asyncio.create_task(offload(goes_on.wait)) for _ in range(40)]
        try:
            async with asyncio.timeout(60):
                assert await offload_ahead(str, "renewed") == "renewed"
            assert not any(task.done() for task in waiting)
        finally:
            goes_on.set()
            await asyncio.gather(*waiting)

    run_async(play())


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_broke_is_not_used_again() -> None:
    def use(statement: str) -> object:
        connection = connections["default"]
        connection.ensure_connection()
        used: object = connection.connection
        with suppress(OperationalError), connection.cursor() as cursor:
            cursor.execute(statement)
        return used

    async def play() -> None:
        first = await offload_ahead(use, "SELECT 1")
        assert await offload_ahead(use, "SELECT 1") is first, "one that works stays with its thread"
        assert await offload_ahead(use, "SELECT nothing FROM nowhere") is first
        assert await offload_ahead(use, "SELECT 1") is not first

    run_async(play())
