"""What texts are for: each kind is one object, named in the setting GENERATION_KINDS.

This app knows none of them. It asks a text's kind how a model is to be asked, what is shown where no model writes,
how the text looks to a client, and tells it when the text has ended.
"""

import functools
import uuid
from collections.abc import Collection
from typing import ClassVar, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string

from generation.model_request import ModelRequest
from generation.models import Generation

EventData = dict[str, object]


# Stands between a text and what its model was asked about it.
SEPARATOR = "\n\n"


class Events:
    """How a text looks to one client that follows it. The methods may use the database."""

    # The type of the events that carry text.
    text_event: ClassVar[str] = "token"

    def opening(self, generation: Generation) -> EventData | None:
        """Return the data of the `metadata` event, None for no such event."""
        return {"generation_id": str(generation.pk), "source": generation.source}

    def closing(self, generation: Generation) -> tuple[str, EventData]:
        """Return type and data of the event behind a complete text."""
        return "done", {"full_text": generation.text, "completed": False, "generation_id": str(generation.pk)}


class Part(NamedTuple):
    """An event that a part of a structured text is shown as, and behind which character of the text it is complete."""

    end: int
    type: str
    data: EventData


class StructuredEvents(Events):
    """How a text that is no prose looks to one client: as events, each as soon as its part of the text is complete."""

    def prepare(self, generation: Generation) -> None:
        """Read what is needed to tell the parts; called once before any, and may use the database."""

    def parts(self, text: str) -> list[Part]:
        """Return the parts that are complete in what there is of a text, in their order. Does not use the database."""
        raise NotImplementedError

    def failed(self, generation: Generation) -> tuple[str, EventData] | None:
        """Return type and data of the event behind a text that failed, None for an `error`."""
        return None


class Kind:
    """A text that is for nothing in particular. The methods may use the database."""

    events: ClassVar[type[Events]] = Events
    # Whether a text that was cut at its longest is brought to its end by asking its model once more.
    is_continued_if_cut: ClassVar[bool] = False

    def request(self, generation: Generation) -> ModelRequest:
        """Return how to ask a model, with what is known now. Called when the text is first claimed, not before."""
        return ModelRequest(generation.messages, only_model=generation.only_model)

    def fallback(self, generation: Generation) -> str:
        """Return the text to show where no model writes, empty where there is none."""
        return ""

    def follow_up(self, generation: Generation, text: str) -> ModelRequest | None:
        """Return what to ask whoever wrote a text once more, None for nothing.

        The answer is put behind the text and SEPARATOR. Called when the text came to its end, before that is stored.
        """
        return None

    def on_end(self, generation: Generation) -> Collection[uuid.UUID]:
        """Store what follows from a text that is final now, whoever ended it and whether or not anybody watches.

        Returns the texts that waited for this one and are to begin now.

        Called inside the transaction that stores the end. An error undoes what this method stored, and is logged.
        """
        return ()


def is_structured(generation: Generation) -> bool:
    """Return whether a text is no prose, so that only its parts are shown."""
    return issubclass(kind_of(generation).events, StructuredEvents)


def kind_of(generation: Generation) -> Kind:
    """Return the kind of a text; a plain one where its name is not, or no longer, in the settings."""
    return load_kind(settings.GENERATION_KINDS.get(generation.kind, "generation.kinds.Kind"))


@functools.cache
def load_kind(path: str) -> Kind:
    """Return the kind at a dotted path. Raises ImportError or TypeError where there is none."""
    kind = import_string(path)()
    if not isinstance(kind, Kind):
        raise TypeError(f"{path} is no kind of generation")
    return kind
