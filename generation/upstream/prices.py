"""What models cost, as far as it is known: US dollars for a million tokens, as published by OpenAI."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Price:
    prompt: Decimal
    cached: Decimal
    completion: Decimal


# Dated names such as gpt-4.1-mini-2025-04-14 cost what the name before the date costs.
PRICES = {
    "gpt-4o-mini": Price(Decimal("0.15"), Decimal("0.075"), Decimal("0.60")),
    "gpt-4o": Price(Decimal("2.50"), Decimal("1.25"), Decimal("10.00")),
    "gpt-4.1-nano": Price(Decimal("0.10"), Decimal("0.025"), Decimal("0.40")),
    "gpt-4.1-mini": Price(Decimal("0.40"), Decimal("0.10"), Decimal("1.60")),
    "gpt-4.1": Price(Decimal("2.00"), Decimal("0.50"), Decimal("8.00")),
}
_MILLION = 1_000_000


def cost(model: str, *, prompt: int, cached: int, completion: int) -> Decimal | None:
    """Return what a text cost; None when the model's price is not known. `cached` tokens are part of `prompt`."""
    price = _price(model)
    if price is None:
        return None
    fresh = max(prompt - cached, 0)
    return (fresh * price.prompt + cached * price.cached + completion * price.completion) / _MILLION


def _price(model: str) -> Price | None:
    name = model.removeprefix("openai/")  # as OpenRouter calls them
    if name in PRICES:
        return PRICES[name]
    base, _, date = name.rpartition("-20")
    return PRICES.get(base) if date else None
