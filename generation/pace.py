"""How often a text that grows is looked at."""

# Tokens arrive every few milliseconds and the page draws once a frame; handling them less often costs nobody anything.
MERGE_SECONDS = 0.05
