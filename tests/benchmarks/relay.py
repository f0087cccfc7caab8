"""The peer: a relay of aiohttp's server and client that passes bytes on and parses nothing."""

import argparse
import os

import aiohttp
import uvloop
from aiohttp import web

_QUESTION = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "Go on."}]}
_session = web.AppKey("session", aiohttp.ClientSession)


async def _stream(request: web.Request) -> web.StreamResponse:
    url = f"{os.environ['OPENAI_BASE_URL']}/chat/completions"
    async with request.app[_session].post(url, json=_QUESTION) as answer:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        return response


async def _page(request: web.Request) -> web.Response:
    return web.Response(text="An ordinary page.")


async def _application() -> web.Application:
    application = web.Application()
    application[_session] = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(None)
    )
    application.router.add_get("/", _page)
    application.router.add_get("/stream", _stream)
    return application


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.relay")
    parser.add_argument("--port", type=int, required=True)
    uvloop.install()
    web.run_app(
        _application(), host="127.0.0.1", port=parser.parse_args().port, access_log=None, print=None, backlog=4096
    )


if __name__ == "__main__":
    main()
