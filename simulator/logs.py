"""What must never reach a log."""

import logging


class NoTexts(logging.Filter):
    """Drop records that carry prompts, answers or SQL parameters, whatever level the operator chose.

    At DEBUG the openai package logs the whole request, prompts included (`OPENAI_LOG=debug` turns that on behind
    Django's back), and Django logs each statement with its parameters, answers included.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        carries_texts = record.name == "openai" or record.name.startswith(("openai.", "django.db.backends", "httpcore"))
        return not (carries_texts and record.levelno < logging.INFO)
