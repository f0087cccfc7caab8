"""A provider that never writes the same text twice, so that finding a text somewhere says where it came from."""

import json
import random
from collections import defaultdict

from tests.fake_openai import Behaviour, Ending, FakeOpenAI, RecordedRequest, Refusal

FAULTS = (
    Behaviour(status=Refusal.SERVER_ERROR),
    Behaviour(status=Refusal.RATE_LIMIT, retry_after=1),
    Behaviour(ending=Ending.RESET, after_tokens=7),
    Behaviour(ending=Ending.NO_FINISH_REASON, after_tokens=12),
    Behaviour(ending=Ending.ERROR_OBJECT, after_tokens=5),
    Behaviour(ending=Ending.BROKEN_JSON, after_tokens=9),
)


# No text of an author begins so.
MODELS_BEGINNING = "[written as "


class Author:
    """Answers a fake provider's requests and knows for each text which conversation it was written for."""

    def __init__(self, provider: FakeOpenAI, *, seed: int, fault_share: float) -> None:
        self.random = random.Random(f"{seed} author")  # noqa: S311  # repeatable, no secret
        self.fault_share = fault_share
        self.whole: set[str] = set()
        self._texts: dict[str, tuple[str, str]] = {}
        self.calls: dict[str, list[RecordedRequest]] = defaultdict(list)
        self.faulty: dict[str, int] = defaultdict(int)
        provider.default = self.answer

    def answer(self, request: RecordedRequest) -> Behaviour:
        conversation = _name(request.messages)
        tokens = self._tokens(request.request_id)
        self.calls[conversation].append(request)
        self._texts[tokens[0]] = ("".join(tokens), conversation)
        pace = Behaviour(
            tokens=tokens,
            tokens_per_second=self.random.choice([20, 40, 80]),
            first_token_delay=self.random.uniform(0, 0.3),
        )
        if self.random.random() >= self.fault_share:
            self.whole.add("".join(tokens))
            return pace
        self.faulty[conversation] += 1
        fault = self.random.choice(FAULTS)
        return fault if fault.status else Behaviour(tokens=tokens, ending=fault.ending, after_tokens=fault.after_tokens)

    def _tokens(self, request_id: str) -> tuple[str, ...]:
        """Give tokens that name their text, each with its number: no piece of another text fits among them."""
        words = (f"{number}.{request_id[-5:]} слово 🌹\n\n" for number in range(self.random.randint(15, 60)))
        return f"{MODELS_BEGINNING}{request_id}] ", *words

    def text_beginning(self, text: str) -> str:
        """Give the whole of what a text is the beginning of, or would be; nothing for a text that is not ours."""
        whole, _ = self._texts.get(_first_token(text), ("", ""))
        return whole

    def wrote(self, text: str, *, messages: object) -> bool:
        """Say whether a text is, from its first character, what was sent in answer to this conversation."""
        whole, conversation = self._texts.get(_first_token(text), ("", ""))
        return whole.startswith(text) and conversation == _name(messages)

    def calls_for(self, messages: object) -> list[RecordedRequest]:
        return self.calls[_name(messages)]

    def faults_for(self, messages: object) -> int:
        return self.faulty[_name(messages)]


def _first_token(text: str) -> str:
    return text[: text.find("]") + 2]


def _name(messages: object) -> str:
    return json.dumps(messages, sort_keys=True)
