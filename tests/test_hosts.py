"""At which addresses the site answers, and what somebody sees who comes to another one."""

import itertools
import re

import httpx2
import pytest
from django.test import Client as DjangoClient
from django.utils.functional import Promise

from accounts.models import User
from professions.models import Profession
from tests.conftest import Server, ServerStarter
from tests.test_settings import Visitor
from web.hosts import wrong_host

LAN = "http://192.168.1.20:8000"


@pytest.fixture
def lan_server(start_own_server: ServerStarter) -> Server:
    return start_own_server(SITE_URL=LAN)


@pytest.mark.django_db(transaction=True)
def test_forms_work_at_the_sites_address_and_at_the_loopback_names(lan_server: Server, profession: Profession) -> None:
    port = lan_server.port
    for name in ["192.168.1.20:8000", f"localhost:{port}", "localhost", f"127.0.0.1:{port}", f"[::1]:{port}"]:
        visitor = Visitor(lan_server, f"http://{name}")
        visitor.headers["Origin"] = f"http://{name}"
        assert visitor.ask("GET", "/professions/gardener").status_code == 200, name
        assert visitor.ask("POST", "/professions/gardener/start").status_code == 302, name
        visitor.headers["Origin"] = "http://evil.example"
        assert visitor.ask("POST", "/professions/gardener/start").status_code == 403, name
    assert User.objects.filter(is_guest=True).count() == 5


def test_the_refusal_of_a_wrong_host_is_put_into_words_for_each_reader() -> None:
    assert isinstance(wrong_host().message, Promise), "formatted at once, its English would be the visitor's language"


@pytest.mark.django_db(transaction=True)
def test_a_wrong_host_is_told_where_the_site_is_and_logged_in_one_line(lan_server: Server) -> None:
    page = httpx2.get(f"{lan_server.url}/simulations", headers={"Host": "evil<b>.example"})
    assert page.status_code == 400
    assert f'<a href="{LAN}/"><bdi>{LAN}</bdi></a>' in page.text
    assert "SITE_URL" in page.text
    assert "evil&lt;b&gt;.example" in page.text
    assert "location" not in page.headers
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        assert httpx2.get(f"{lan_server.url}{address}", headers={"Host": "evil.example"}).status_code == 200

    before = lan_server.log.count("\n")
    answer = httpx2.get(f"{lan_server.url}/api/professions", headers={"Host": "a" * 500})
    assert answer.status_code == 400
    assert answer.json()["code"] == "wrong_host"
    assert answer.json()["message"] == answer.json()["detail"] == f"This site answers at {LAN}."
    new_lines = lan_server.log.splitlines()[before:]
    (warning,) = [line for line in new_lines if "uvicorn.access" not in line]
    assert f"Refused a request to the host {'a' * 100}...; this site answers at {LAN}" in warning
    assert " WARNING web.hosts " in warning


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{"X-Forwarded-Host": "evil.example"}, {"Forwarded": "host=evil.example"}])
def test_a_forwarded_host_is_not_believed(authored_server: Server, headers: dict[str, str]) -> None:
    answer = httpx2.get(f"{authored_server.url}/simulations", headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (302, "/accounts/login/?next=/simulations")
    reset = httpx2.get(f"{authored_server.url}/api/schema", headers=headers)
    assert "evil.example" not in reset.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("site", [LAN, "https://try.example.org"])
def test_supervisors_are_answered_whatever_they_call_the_host(start_own_server: ServerStarter, site: str) -> None:
    server = start_own_server(SITE_URL=site)
    for host, path in itertools.product(["10.0.0.7", "evil.example", "_", "127.0.0.1"], ["/healthz", "/readyz"]):
        answer = httpx2.get(f"{server.url}{path}", headers={"Host": host})
        assert (answer.status_code, answer.text) == (200, "ok\n")
        head = httpx2.head(f"{server.url}{path}", headers={"Host": host})
        assert (head.status_code, head.headers["content-length"]) == (200, "3")
        assert "set-cookie" not in answer.headers
        refused = httpx2.post(f"{server.url}{path}", headers={"Host": host})
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


LEADS = {
    "/admin": "/admin/",
    "/accounts/login": "/accounts/login/",
    "/accounts/login//": "/accounts/login/",
    "/simulations/": "/simulations",
    "/simulations//": "/simulations",
    "/professions/gardener/?a=%2F&b=c": "/professions/gardener?a=%2F&b=c",
    "/simulations/7/report/": "/simulations/7/report",
}
NOWHERE = [
    "//evil.example",
    "//evil.example/",
    "/%2F%2Fevil.example",
    "/%2f/evil.example/",
    "//accounts/login",
    "/\\evil.example/",
    "/%5Cevil.example/",
    "/\\/evil.example/..//",
    "/nothing",
    "/nothing/",
    "/",
    "//",
    "/api/professions/",
    "/api/",
    "/api/docs/",
    "/api/generations/00000000-0000-0000-0000-000000000000/stream/",
]


@pytest.mark.django_db(transaction=True)
def test_a_slash_too_many_or_too_few_leads_where_it_means(authored_server: Server) -> None:
    for path, meant in LEADS.items():
        for method in ["GET", "HEAD"]:
            answer = httpx2.request(method, f"{authored_server.url}{path}")
            assert (answer.status_code, answer.headers.get("location")) == (301, meant), path
        posted = httpx2.post(f"{authored_server.url}{path}")
        assert posted.status_code in {403, 404}, path


@pytest.mark.django_db(transaction=True)
def test_no_address_leads_to_another_site_and_those_of_the_api_are_exact(authored_server: Server) -> None:
    for path in NOWHERE:
        target = path.encode()
        request = httpx2.Request("GET", authored_server.url, extensions={"target": target})
        with httpx2.Client(timeout=60) as client:
            answer = client.send(request)
        assert "location" not in answer.headers, path
        assert answer.status_code == (200 if path == "/" else 404), path
        if path.startswith("/api/"):
            assert answer.json()["code"] == "not_found"


@pytest.mark.django_db(transaction=True)
def test_staff_are_led_to_the_admins_pages_and_not_round_in_circles(client: DjangoClient, static_files: None) -> None:
    client.force_login(User.objects.create_superuser("staff", password="correct horse battery"))
    led = client.get("/admin/professions/profession", {"q": "nurse"})
    assert (led.status_code, led.headers["location"]) == (301, "/admin/professions/profession/?q=nurse")
    for path in ["/admin/nonsense", "/admin/nonsense/", "/admin//evil.example"]:
        assert client.get(path).status_code == 404, path
