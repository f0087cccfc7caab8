"""Many learners at once, on one event loop."""

import asyncio
from collections.abc import Sequence

import aiohttp


class Crowd:
    """A session that holds many streams open."""

    def __init__(self) -> None:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(600)
        )

    async def __aenter__(self) -> "Crowd":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.session.close()

    async def first_tokens(self, urls: Sequence[str], tokens: Sequence[str]) -> list[aiohttp.ClientResponse]:
        """Open a stream for each token, at the addresses in turn, and read each up to its first text."""
        places = [(urls[number % len(urls)], token) for number, token in enumerate(tokens)]
        return await asyncio.gather(*(self._first_token(url, token) for url, token in places))

    async def _first_token(self, url: str, token: str) -> aiohttp.ClientResponse:
        response = await self.session.get(url, headers={"Authorization": f"Bearer {token}"})
        assert response.status == 200, await response.text()
        async for line in response.content:
            if b'"type":"token"' in line:
                return response
        raise AssertionError("no token")

    async def ends(self, responses: Sequence[aiohttp.ClientResponse]) -> list[bytes]:
        """Read streams to their ends and give what came."""
        return await asyncio.gather(*(response.content.read() for response in responses))

    async def ends_without(self, what: bytes, responses: Sequence[aiohttp.ClientResponse]) -> list[bytes]:
        """Read streams to their ends and give what came of those in which this is missing."""
        return [end for end in await self.ends(responses) if what not in end]
