"""Run a command of manage.py on the tiny model: `python -m simulator.tiny_model serve --port 8000`.

Where the model does not run, says so and goes on without it.
"""

import os
import sys

from generation.toy import TOY_MODEL
from simulator.tiny_model import ROOT, CannotRun, start

# Whoever asks for this model gets no other, whatever else is set.
ONLY = {
    "OPENAI_API_KEY": "",
    "OPENAI_API_KEYS": "",
    "OPENAI_MODEL": TOY_MODEL,
    "OPENAI_FALLBACK_MODELS": ",",
    "OPENROUTER_API_KEY": "",
    "VARIANT_MODELS": "",
}
# It reads a few dozen tokens a second on a weak machine, and one text at a time.
SLOW_AND_SMALL = {
    "LLM_FIRST_TOKEN_SECONDS": "600",
    "LLM_IDLE_SECONDS": "120",
    "LLM_TIMEOUT_SECONDS": "1200",
    "LLM_MAX_TOKENS": "400",
}


def main() -> None:
    try:
        model = start()
    except CannotRun as reason:
        say(f"The tiny model does not run here ({reason}). The site goes on without it.")
    else:
        say("A tiny model writes on this site: real streams, silly texts.")
        os.environ.update(ONLY, OPENAI_BASE_URL=model.base_url)
        for name, value in SLOW_AND_SMALL.items():
            os.environ.setdefault(name, value)
        os.set_inheritable(model.lifeline.fileno(), True)
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "manage.py", *sys.argv[1:]])  # noqa: S606  # this very Python


def say(sentence: str) -> None:
    print(sentence, flush=True)  # noqa: T201  # to the terminal it was started from


if __name__ == "__main__":
    main()
