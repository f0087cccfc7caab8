"""The text that `manage.py verify` asks for, to see that words arrive one after the other."""

from generation.kinds import Kind
from generation.model_request import Message, ModelRequest
from generation.models import Generation
from generation.upstream.authored import SECONDS_PER_PIECE, pieces_of

NAME = "verify"
QUESTION = [Message(role="user", content="Write one sentence of about fifteen words about a morning at work.")]
# Long enough to take a second or two when it is written word by word, so that a proxy that collects it shows.
TEXT = "This text proves that words arrive one after the other. " * 12
WRITING_SECONDS = len(list(pieces_of(TEXT))) * SECONDS_PER_PIECE


class CheckKind(Kind):
    def request(self, generation: Generation) -> ModelRequest:
        return ModelRequest(QUESTION)

    def fallback(self, generation: Generation) -> str:
        return TEXT
