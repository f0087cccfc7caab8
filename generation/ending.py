"""How texts end: the row becomes final and its kind is told, in one transaction, whoever ends it."""

import logging
import uuid
from collections.abc import Collection, Mapping

from django.db import OperationalError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from generation.kinds import kind_of
from generation.models import Generation
from generation.models.generation import GenerationQuerySet

logger = logging.getLogger("generation.ending")


@transaction.atomic
def end(
    generation: Generation, status: Generation.Status, values: Mapping[str, object]
) -> Collection[uuid.UUID] | None:
    """Store how the writing ended, and return the texts that waited for that.

    None when another epoch took over meanwhile; then nothing is stored.
    """
    return _tell_kind(generation) if generation.save_end(status, **values) else None


def cancel(pk: uuid.UUID) -> None:
    """Stop a text. One that no living producer writes ends here and now; else its producer sees the wish."""
    if not _end_each(Generation.objects.unclaimed().filter(pk=pk), Generation.Status.CANCELLED, "cancelled"):
        Generation.objects.unfinished().filter(pk=pk).update(cancel_wanted=True)


def end_orphans() -> int:
    """End the texts that no producer is to take over, and return how many there were."""
    expired = Generation.objects.expired()
    unwanted = expired.filter(Q(cancel_wanted=True) | Q(user__is_active=False))
    cancelled = _end_each(unwanted, Generation.Status.CANCELLED, "cancelled")
    return cancelled + _end_each(expired.worn_out(), Generation.Status.FAILED, "interrupted")


def release(*, owner: str) -> int:
    """Release all claims of an owner, so that whoever looks next takes them, and return their number.

    A text that somebody wanted stopped ends here: its wish may have come while the process was leaving.
    """
    own = Generation.objects.owned_by(owner)
    _end_each(own.filter(cancel_wanted=True), Generation.Status.CANCELLED, "cancelled")
    return own.give_back()


def _end_each(texts: GenerationQuerySet, status: Generation.Status, fault: str) -> int:
    """End those of these texts that are still to be ended when it is their turn, and return their number.

    Where there are none, nothing is written: SQLite takes the write lock for an update even then.
    """
    return sum(_end_one(texts, pk, status, fault) for pk in list(texts.values_list("pk", flat=True)))


@transaction.atomic
def _end_one(texts: GenerationQuerySet, pk: uuid.UUID, status: Generation.Status, fault: str) -> bool:
    ended = texts.filter(pk=pk).update(status=status, fault=fault, epoch=F("epoch") + 1, finished_at=Now())
    if ended:
        _tell_kind(Generation.objects.get(pk=pk))
    return bool(ended)


def _tell_kind(generation: Generation) -> Collection[uuid.UUID]:
    try:
        with transaction.atomic():
            return kind_of(generation).on_end(generation)
    except OperationalError:
        raise  # the end is stored again when the database works
    except Exception:  # a mistake in what follows from a text must not lose the text
        logger.exception("what follows from the end was not stored generation=%s", generation.pk)
        return ()
