"""nginx for tests: in a folder of its own, as whoever runs the tests, and gone with the test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import required

MAIN = """
{user}
pid {folder}/nginx.pid;
error_log stderr;
daemon off;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""


def start_command(folder: Path, http: str, *, user: str = "") -> list[str]:
    """Return the command that starts nginx with what stands inside of `http`."""
    file = folder / "nginx.conf"
    file.write_text(MAIN.format(folder=folder, http=http, user=f"user {user};" if user else ""), encoding="utf-8")
    return [required("nginx"), "-c", str(file), "-p", str(folder)]


@contextmanager
def running(command: list[str], *, log_file: Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a proxy until the end, of whatever kind, of what is done with it."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment or None)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
