"""Who may write a text: one producer at a time, under an epoch of its own, for as long as its lease runs."""

import asyncio
import uuid
from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from generation import ending, supervisor
from generation.log.memory import MemoryLog
from generation.models import LEASE, MOST_TAKEOVERS, Generation
from generation.offload import offload
from generation.process import Process
from tests.conftest import ASYNC_UNSAFE
from tests.kinds import KINDS
from tests.waiting import run_async

A_LITTLE = timedelta(seconds=2)


@pytest.fixture
def generation(transactional_db: None, alice: User, settings: Settings) -> Generation:
    settings.GENERATION_KINDS = KINDS
    return authored(alice, "short")


def authored(user: User, name: str) -> Generation:
    return Generation.objects.create(user=user, kind="fixed", subject=name, source=Generation.Source.AUTHORED)


def claimed_by(owner: str, generation: Generation) -> Generation:
    claimed = Generation.objects.claim(generation.pk, owner=owner)
    assert claimed is not None
    return claimed


def let_lease_run_out(generation: Generation) -> None:
    Generation.objects.filter(pk=generation.pk).update(lease_expires_at=timezone.now() - A_LITTLE)


def test_a_text_under_a_lease_is_nobody_elses(generation: Generation) -> None:
    assert claimed_by("first", generation).epoch == 1
    assert Generation.objects.claim(generation.pk, owner="second") is None
    generation.refresh_from_db()
    assert (generation.lease_owner, generation.epoch, generation.takeovers) == ("first", 1, 0)


def test_a_finished_text_is_not_written_again(generation: Generation) -> None:
    claimed_by("first", generation).save_end(Generation.Status.COMPLETED, text="Done.")
    let_lease_run_out(generation)
    assert Generation.objects.claim(generation.pk, owner="second") is None
    assert Generation.objects.get().text == "Done."


def test_a_text_that_was_taken_over_often_enough_is_claimed_by_nobody(generation: Generation) -> None:
    claimed_by("first", generation)
    let_lease_run_out(generation)
    Generation.objects.update(takeovers=MOST_TAKEOVERS)
    assert Generation.objects.claim(generation.pk, owner="second") is None


def test_a_producer_whose_lease_ran_out_stores_no_end_once_another_has_the_text(generation: Generation) -> None:
    zombie = claimed_by("first", generation)
    let_lease_run_out(generation)
    successor = claimed_by("second", generation)
    assert (successor.epoch, successor.takeovers) == (2, 1)
    assert not zombie.save_end(Generation.Status.COMPLETED, text="The zombie's.")
    assert successor.save_end(Generation.Status.COMPLETED, text="The successor's.")
    assert not zombie.save_end(Generation.Status.FAILED, text="The zombie's.")
    row = Generation.objects.get()
    assert (row.status, row.text, row.epoch) == ("completed", "The successor's.", 2)


def test_the_same_process_under_a_later_epoch_is_a_successor_too(generation: Generation) -> None:
    zombie = claimed_by("first", generation)
    let_lease_run_out(generation)
    claimed_by("first", generation)
    assert not zombie.save_end(Generation.Status.COMPLETED, text="The zombie's.")


def test_renewing_keeps_own_claims_and_says_which_are_lost(generation: Generation) -> None:
    claimed_by("first", generation)
    let_lease_run_out(generation)
    assert Generation.objects.renew([generation.pk], owner="first") == {generation.pk: False}
    assert Generation.objects.filter(lease_expires_at__gt=timezone.now() + LEASE - A_LITTLE).exists()
    assert Generation.objects.renew([generation.pk], owner="second") == {}


def test_claims_given_back_are_free_at_once(generation: Generation) -> None:
    claimed_by("first", generation)
    assert ending.release(owner="second") == 0
    assert ending.release(owner="first") == 1
    assert list(Generation.objects.abandoned()) == [generation]
    assert claimed_by("second", generation).epoch == 2


def test_the_end_is_announced_when_the_row_has_it(generation: Generation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ASYNC_UNSAFE, "true")  # for the witness, who reads the row from the event loop
    rows: list[tuple[str, str]] = []

    class Witness(MemoryLog):
        def end(self, generation_id: uuid.UUID, epoch: int) -> None:
            row = Generation.objects.get(pk=generation_id)
            rows.append((row.status, row.text))
            super().end(generation_id, epoch)

    async def write() -> None:
        producers = Process(event_log=Witness()).supervisor
        producers.ensure(generation.pk)
        async with asyncio.timeout(60):
            await producers.wait_for_all()

    run_async(write())
    assert rows == [("completed", "One two three.")]


def test_a_text_that_begins_just_when_the_last_renewal_ends_is_renewed_too(
    generation: Generation, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RENEW_SECONDS", 0.01)
    following = authored(alice, "long")

    async def lease() -> datetime | None:
        return await offload(Generation.objects.values_list("lease_expires_at", flat=True).get, pk=following.pk)

    async def scenario() -> bool:
        producers = Process().supervisor
        before = asyncio.all_tasks()
        producers.ensure(generation.pk)
        (renewal,) = [task for task in asyncio.all_tasks() - before if "_renew_leases" in repr(task)]
        while not renewal.done():
            await asyncio.sleep(0)
        producers.ensure(following.pk)
        leases: set[datetime | None] = set()
        while len(leases - {None}) < 2 and not (await offload(Generation.objects.get, pk=following.pk)).is_final:
            leases.add(await lease())
        await producers.wait_for_all()
        return len(leases - {None}) >= 2

    assert run_async(scenario()), "the lease never moved"


def test_a_text_that_is_written_again_may_be_taken_over_as_often_as_the_first(generation: Generation) -> None:
    claimed_by("first", generation).save_end(Generation.Status.FAILED, fault="interrupted")
    Generation.objects.update(takeovers=MOST_TAKEOVERS, cancel_wanted=True)
    assert Generation.objects.restart(generation.pk)
    claimed_by("second", generation)
    let_lease_run_out(generation)
    assert ending.end_orphans() == 0
    assert claimed_by("third", generation).takeovers == 1
