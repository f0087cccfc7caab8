"""What the texts of this app are for: variants of a brief."""

from django.utils.crypto import salted_hmac

from generation.kinds import EventData, Events, Kind
from generation.model_request import Message, ModelRequest
from generation.models import Attempt, Generation
from professions.models import Variant
from professions.prompt import system_message, wish_for_task


class VariantEvents(Events):
    """A variant that is followed alone, by its generation's id."""

    def opening(self, generation: Generation) -> EventData | None:
        return {"generation_id": str(generation.pk), "model": generation.only_model, "source": generation.source}

    def closing(self, generation: Generation) -> tuple[str, EventData]:
        """Return how the text came about too. Times are in seconds, the cost in US dollars."""
        attempt = generation.attempts.get(outcome=Attempt.Outcome.COMPLETED, epoch=generation.epoch)
        return "done", {
            "full_text": generation.text,
            "completed": False,
            "generation_id": str(generation.pk),
            "model": generation.model or generation.only_model,
            "first_token_seconds": attempt.first_token_seconds,
            "seconds": attempt.seconds,
            "prompt_tokens": attempt.prompt_tokens,
            "completion_tokens": attempt.completion_tokens,
            "cost": None if attempt.cost is None else str(attempt.cost),
        }


class VariantKind(Kind):
    events = VariantEvents

    def request(self, generation: Generation) -> ModelRequest:
        """Return what a learner's simulation would begin with if the brief were its first."""
        brief = Variant.objects.select_related("brief__profession").get(generation=generation).brief
        profession = brief.profession
        # The same for each model, so that what they write can be compared.
        marker = salted_hmac("professions.kinds.variant", str(brief.pk)).hexdigest()[:16]
        system = system_message(profession, language=profession.language, marker=marker)
        total = len(profession.ordered_briefs)
        wish = Message(role="user", content=wish_for_task(brief, order=brief.order, total=total))
        return ModelRequest([system, wish], only_model=generation.only_model)
