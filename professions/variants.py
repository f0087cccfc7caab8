"""Variants: several models write the same brief side by side, so that staff can choose models and texts."""

from collections.abc import Sequence

from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from generation import budget
from generation.models import Generation
from generation.upstream import candidates
from professions.models import Brief, Variant
from web.problems import Conflict

VARIANT = "variant"
MOST_VARIANTS = 4


@transaction.atomic
def begin(brief: Brief, *, models: Sequence[str], staff: User) -> list[Variant]:
    """Ask for one text of a brief from each model, or from those of VARIANT_MODELS where none is named; the same model
    twice shows how consistent it is.

    Raises: Problem: 409 without a key, 429 when the day's tokens are used up.
    """
    chosen = list(models) or settings.VARIANT_MODELS[:MOST_VARIANTS]
    if not candidates.any_configured():
        raise Conflict(_("No key is configured: set OPENAI_API_KEY to have models write."), code="no_model")
    budget.refuse_if_spent(staff)
    return [_begin_one(brief, number, model, staff) for number, model in enumerate(chosen, start=1)]


def _begin_one(brief: Brief, number: int, model: str, staff: User) -> Variant:
    generation = Generation.objects.create(
        user=staff, kind=VARIANT, source=Generation.Source.MODEL, only_model=model, subject=brief.profession.slug
    )
    return Variant.objects.create(brief=brief, number=number, generation=generation)


@transaction.atomic
def keep(variant: Variant, *, staff: User) -> None:
    """Make a variant's text the authored text of its brief.

    Raises: Conflict: 409 when the text is not whole.
    """
    if variant.generation.status != Generation.Status.COMPLETED or variant.generation.was_cut:
        raise Conflict(_("This text is not whole. Only a whole text can become the authored text."), code="not_ready")
    brief = variant.brief
    brief.authored_text = variant.generation.text
    brief.save(update_fields=["authored_text"])
    message = f"Authored text taken from generation {variant.generation_id} ({variant.generation.only_model})"
    LogEntry.objects.log_actions(staff.pk, [brief], CHANGE, change_message=message, single_object=True)
