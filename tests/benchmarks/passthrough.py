"""The peer: a FastAPI app that passes on what the openai package yields with `stream=True`, and stores nothing.

With OPENAI_TRANSPORT=aiohttp the package speaks through aiohttp, as the product's does, instead of its own default.
"""

import json
import os
from collections.abc import AsyncIterator

import httpx2
import openai
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse

# The package's own 1,000 would be the end of it at 1,000 streams.
_limits = httpx2.Limits(max_connections=4000)
_transport = (
    openai.DefaultAioHttpClient if os.environ.get("OPENAI_TRANSPORT") == "aiohttp" else openai.DefaultAsyncHttpxClient
)
_client = openai.AsyncOpenAI(max_retries=0, http_client=_transport(limits=_limits))
app = FastAPI()


@app.get("/")
async def page() -> PlainTextResponse:
    return PlainTextResponse("An ordinary page.")


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(_frames(), media_type="text/event-stream")


async def _frames() -> AsyncIterator[str]:
    chunks = await _client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Go on."}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in chunks:
        if chunk.choices and (token := chunk.choices[0].delta.content):
            yield f"data: {json.dumps({'token': token})}\n\n"
