"""Streams behind servers that were told to compress everything: passed on at once, and as they are."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from professions.models import Profession
from tests.client import Client, text_of
from tests.conftest import Server
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.nginx import MAIN, running
from tests.waiting import free_port, required, wait_until

NGINX = MAIN.replace(
    "{http}",
    """
    gzip on;
    gzip_min_length 0;
    gzip_proxied any;
    gzip_types *;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_http_version 1.1;
            proxy_pass http://127.0.0.1:{site};
        }}
    }}
    """,
).replace("{user}", "")
CADDY = """
{{
    admin off
    auto_https off
    storage file_system {folder}/caddy
}}
http://127.0.0.1:{port} {{
    encode {{
        gzip
        minimum_length 1
        match {{
            header Content-Type text/*
        }}
    }}
    reverse_proxy 127.0.0.1:{site}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend visitors
    bind 127.0.0.1:{port}
    compression algo gzip
    compression type text/html text/plain text/event-stream
    default_backend site
backend site
    server one 127.0.0.1:{site}
"""
APACHE = """
ServerName 127.0.0.1
ServerRoot {folder}
PidFile {folder}/apache.pid
Listen 127.0.0.1:{port}
ErrorLog {folder}/apache.log
DefaultRuntimeDir {folder}
Mutex file:{folder}
{user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule setenvif_module {modules}/mod_setenvif.so
LoadModule filter_module {modules}/mod_filter.so
LoadModule deflate_module {modules}/mod_deflate.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
{compression}
ProxyPass / http://127.0.0.1:{site}/
"""
PROXIES: dict[str, tuple[str, str, Callable[[str], list[str]]]] = {
    "nginx": ("nginx", NGINX, lambda file: ["-c", file]),
    "caddy": ("caddy", CADDY, lambda file: ["run", "--adapter", "caddyfile", "--config", file]),
    "haproxy": ("haproxy", HAPROXY, lambda file: ["-db", "-f", file]),
    # As Debian compresses: what its list of types names.
    "apache": (
        "apache2",
        APACHE.replace("{compression}", "Include /etc/apache2/mods-available/deflate.conf"),
        lambda file: ["-X", "-f", file],
    ),
    # One that compresses everything heeds nothing that the site says; README.md says what to add.
    "apache, everything": (
        "apache2",
        APACHE.replace("{compression}", 'SetOutputFilter DEFLATE\nSetEnvIf Request_URI "/stream$" no-gzip'),
        lambda file: ["-X", "-f", file],
    ),
}
MODULES = "/usr/lib/apache2/modules"


@contextmanager
def proxy_before(server: Server, folder: Path, *, kind: str) -> Iterator[str]:
    """Yield the address of a proxy before a server."""
    program, configuration, arguments = PROXIES[kind]
    port = free_port()
    user = "User #65534\nGroup #65534" if os.geteuid() == 0 else ""
    file = folder / "configuration"
    text = configuration.format(folder=folder, port=port, site=server.port, modules=MODULES, user=user)
    file.write_text(text, encoding="utf-8")
    log_file = folder / "log"
    command = [required(program), *arguments(str(file))]

    def answers() -> bool:
        if process.poll() is not None:
            pytest.fail(f"{kind} ended with {process.returncode}:\n{log_file.read_text()}")
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    with running(command, log_file=log_file, PATH=os.environ["PATH"], HOME=str(folder)) as process:
        wait_until(answers, what=kind)
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("kind", PROXIES)
def test_a_proxy_that_compresses_passes_streams_on_as_they_are_and_at_once(
    server: Server, tmp_path: Path, profession: Profession, provider: FakeOpenAI, alice_token: str, kind: str
) -> None:
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    compressing = {"Accept-Encoding": "gzip, br, deflate"}
    with proxy_before(server, tmp_path, kind=kind) as url, Client(url, token=alice_token) as client:
        page = client.get("/", **compressing)
        assert page.headers["content-encoding"] == "gzip", "it compresses what it may"
        with client.stream(path, **compressing) as stream:
            assert stream.response.headers.get("content-encoding", "identity") == "identity"
            assert text_of(stream.until("token")) == "One "
            assert not provider.requests[0].finished
            provider.release()
            assert stream.until("done")[-1]["data"]["full_text"] == "One two."
