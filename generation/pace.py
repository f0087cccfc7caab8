"""How often a text that grows is looked at."""

import asyncio

# Tokens arrive every few milliseconds and the page draws once a frame; handling them less often costs nobody anything.
MERGE_SECONDS = 0.05
# Looks that fall together cost less: they find the processor's caches warm, and the event loop is asked once for all.
TOGETHER_SECONDS = 0.01


async def next_look() -> None:
    """Wait until it is time to look again, which is the same moment for many."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(MERGE_SECONDS - now % TOGETHER_SECONDS)
