"""What the tests rely on in their own servers."""

from pathlib import Path

import pytest

from tests.conftest import ASYNC_UNSAFE, ServerStarter


def test_no_server_may_use_the_database_on_its_event_loop(
    start_own_server: ServerStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ASYNC_UNSAFE, "true")
    server = start_own_server()
    assert ASYNC_UNSAFE not in Path(f"/proc/{server.process.pid}/environ").read_text(encoding="utf-8")
