"""Behind a real nginx that runs deploy/nginx.conf as it is, but for ports and paths."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from professions.models import Profession
from tests.conftest import KEY, ROOT, Server, ServerStarter
from tests.fake_openai import Behaviour, FakeOpenAI
from tests.nginx import running, start_command
from tests.test_headers import POLICY
from tests.waiting import free_port, required, wait_until

NAME = "try.example.org"


@dataclass
class Nginx:
    folder: Path
    https: int
    http: int

    def curl(self, path: str, *options: str, name: str = NAME, port: int = 0, to: str = "127.0.0.1") -> list[str]:
        """Return the command that asks for a path as a browser with this name in its address does."""
        port = port or self.https
        scheme = "http" if port == self.http else "https"
        where = ["--resolve", f"{name}:{port}:{to}", "--cacert", str(self.folder / "certificate.pem")]
        return [required("curl"), "-sN", "--max-time", "60", *where, *options, f"{scheme}://{name}:{port}{path}"]

    def ask(self, path: str, *options: str, **where: object) -> httpx2.Response:
        """Return the answer, an empty one with status 0 where the connection ends without any."""
        command = self.curl(path, "-i", *options, **where)  # type: ignore[arg-type]
        answered = subprocess.run(command, capture_output=True, check=False).stdout
        head, _, body = answered.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines if ": " in line]
        return httpx2.Response(int(first.split()[1]) if first else 0, headers=headers, content=body)  # type: ignore[arg-type]


def assert_policy(response: httpx2.Response) -> None:
    names = [name for name, _ in response.headers.multi_items()]
    for name in POLICY - {"permissions-policy", "cross-origin-opener-policy"}:
        assert names.count(name) == 1, f"{response.status_code} {name}"
    assert names.count("strict-transport-security") == 1
    assert "/" not in response.headers.get("server", ""), "nginx's version"


@pytest.fixture
def https_site(start_own_server: ServerStarter, provider: FakeOpenAI) -> Server:
    return start_own_server(SITE_URL=f"https://{NAME}", OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)


@pytest.fixture
def nginx(https_site: Server, tmp_path: Path) -> Iterator[Nginx]:
    nginx = Nginx(tmp_path, https=free_port(), http=free_port())
    names = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    command = [required("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run([*command, "-nodes", "-days", "2", "-keyout", key, "-out", certificate, *names], check=True)
    shipped = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    shipped = re.sub(r"(ssl_certificate +)\S+;", rf"\g<1>{certificate};", shipped)
    shipped = re.sub(r"(ssl_certificate_key +)\S+;", rf"\g<1>{key};", shipped)
    shipped = re.sub(r"(listen (?:\[::\]:)?)443\b", rf"\g<1>{nginx.https}", shipped)
    shipped = re.sub(r"(listen (?:\[::\]:)?)80\b", rf"\g<1>{nginx.http}", shipped)
    # A second host, where nobody answers.
    shipped = shipped.replace("# server 10.0.0.12:8000", f"server 127.0.0.1:{free_port()}")
    shipped = shipped.replace("server 127.0.0.1:8000", f"server 127.0.0.1:{https_site.port}")
    shipped = shipped.replace("/var/www/html", str(tmp_path / "www"))
    (tmp_path / "www" / ".well-known" / "acme-challenge").mkdir(parents=True)
    (tmp_path / "site.conf").write_text(shipped, encoding="utf-8")
    start = start_command(tmp_path, f"include {tmp_path}/site.conf;", user="root" if os.geteuid() == 0 else "")
    checked = subprocess.run([*start, "-t"], capture_output=True, text=True, check=False)
    assert "test is successful" in checked.stderr, checked.stderr
    complaints = [line for line in checked.stderr.splitlines() if "[warn]" in line]
    # What nginx 1.25.1 and later says of the one way that 1.22 knows; the file explains it.
    assert all('"listen ... http2" directive is deprecated' in line for line in complaints), complaints
    with running(start, log_file=tmp_path / "log"):
        wait_until(lambda: nginx.ask("/healthz").status_code == 200, what="nginx")
        yield nginx


def test_eight_tabs_read_at_once_over_one_connection_while_the_model_still_writes(
    nginx: Nginx, profession: Profession, provider: FakeOpenAI, alice_token: str, tmp_path: Path
) -> None:
    provider.default = Behaviour(tokens=("One ", "two."), hold_after=1)
    tabs = [tmp_path / f"tab-{number}" for number in range(8)]
    path = f"/api/tasks/profession/{profession.pk}/current/stream"
    (*command, address) = nginx.curl(path, "--http2", "--parallel", "-H", f"Authorization: Bearer {alice_token}")
    command += ["-H", "Accept-Encoding: gzip", "-w", "%{http_version} %{num_connects}\n"]
    for tab in tabs:
        command += ["-o", str(tab), address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        wait_until(
            lambda: all(tab.exists() and b'"One "' in tab.read_bytes() for tab in tabs), what="a word in every tab"
        )
        assert len(provider.requests) == 1
        assert not provider.requests[0].finished
        provider.release()
        out, _ = curl.communicate(timeout=60)
    assert all(b'"full_text":"One two."' in tab.read_bytes() for tab in tabs)
    measured = [line.split() for line in out.splitlines()]
    assert [version for version, _ in measured] == ["2"] * 8
    assert sum(int(connections) for _, connections in measured) == 1


def test_pages_pass_with_the_sites_own_headers_once(nginx: Nginx, profession: Profession) -> None:
    for to in ["127.0.0.1", "[::1]"]:
        page = nginx.ask("/", to=to)
        assert page.status_code == 200
        assert_policy(page)
        assert "script-src 'self'" in page.headers["content-security-policy"]
    started = nginx.ask("/professions/gardener/start", "-X", "POST", "-H", f"Origin: https://{NAME}:{nginx.https}")
    assert started.status_code == 403, "without the form's token"
    assert_policy(started)


def test_other_names_get_no_certificate_no_page_and_no_redirect(nginx: Nginx) -> None:
    refused = subprocess.run(nginx.curl("/", "-k", name="evil.example"), capture_output=True, check=False)
    assert (refused.returncode, refused.stdout) == (35, b""), "the handshake is refused"
    within = nginx.ask("/", "-H", "Host: evil.example")
    assert within.status_code == 421
    assert_policy(within)
    assert nginx.ask("/", port=nginx.http, name="evil.example").status_code == 0


def test_http_leads_to_https_but_for_what_renews_the_certificate(nginx: Nginx, tmp_path: Path) -> None:
    led = nginx.ask("/simulations?a=b", port=nginx.http)
    assert (led.status_code, led.headers["location"]) == (301, f"https://{NAME}/simulations?a=b")
    (tmp_path / "www" / ".well-known" / "acme-challenge" / "token").write_text("proof", encoding="utf-8")
    challenge = nginx.ask("/.well-known/acme-challenge/token", port=nginx.http)
    assert (challenge.status_code, challenge.text) == (200, "proof")


def test_while_the_site_is_down_people_and_programs_are_told_to_come_back(nginx: Nginx, https_site: Server) -> None:
    https_site.stop()
    page = nginx.ask("/simulations")
    assert (page.status_code, page.headers["retry-after"]) == (503, "5")
    assert "Back in a moment" in page.text
    assert page.headers["content-type"] == "text/html"
    assert_policy(page)
    answer = nginx.ask("/api/professions")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["code"] == "unavailable"
    assert set(answer.json()) == {"code", "detail", "message"}
    assert_policy(answer)


def test_a_body_over_the_sites_limit_is_refused_before_it_is_passed_on(nginx: Nginx, tmp_path: Path) -> None:
    body = tmp_path / "large"
    body.write_bytes(b"x" * 300_000)
    for path, media in [("/accounts/login/", "text/html"), ("/api/simulations", "application/json")]:
        refused = nginx.ask(path, "--data-binary", f"@{body}", "-H", "Expect:")
        assert (refused.status_code, refused.headers["content-type"]) == (413, media)
        assert_policy(refused)
