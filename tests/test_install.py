"""A fresh clone and the lines of deploy/README.md, as written, on the Debian releases promised there."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.debian import Debian
from tests.waiting import required

HOME = "/srv/profession-simulator"
STATE = "/var/lib/profession-simulator"
UNITS = sorted((ROOT / "deploy").glob("*.service"))
# How open to attack a unit is, from 0 to 10, by systemd's own reckoning.
MOST_EXPOSED = 2.0
# There is no systemd in a folder: this runs the command of a unit as the unit says, and follows its log.
SYSTEMCTL = r"""#!/usr/bin/python3
import ctypes, os, pathlib, pwd, re, shutil, subprocess, sys, time, urllib.request

state = pathlib.Path("/run/main-pid")
log = pathlib.Path("/var/log/profession-simulator.log")


def start():
    unit = pathlib.Path("/etc/systemd/system/profession-simulator.service").read_text()
    value = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    folder = pathlib.Path("/var/lib", value["StateDirectory"])
    folder.mkdir(exist_ok=True)
    folder.chmod(int(value["StateDirectoryMode"], 8))
    shutil.chown(folder, value["User"], value["Group"])
    lines = pathlib.Path(value["EnvironmentFile"]).read_text()
    environment = dict(re.findall(r"^([A-Z_]+)=(.*)$", lines, re.MULTILINE))
    environment |= {"PATH": "/usr/bin:/bin", "HOME": pwd.getpwnam(value["User"]).pw_dir}
    drop = ["setpriv", "--reuid", value["User"], "--regid", value["Group"], "--init-groups"]
    drop += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]

    def restrict():
        os.umask(int(value["UMask"], 8))
        if value["MemoryDenyWriteExecute"] == "true":
            ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # where the kernel knows it

    process = subprocess.Popen([*drop, *value["ExecStart"].split()], cwd=value["WorkingDirectory"], env=environment,
        stdout=log.open("ab"), stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=restrict)
    state.write_text(str(process.pid))
    port = re.search(r"--port (\d+)", value["ExecStart"])[1]
    for _ in range(1200):
        if process.poll() is not None:
            sys.exit(f"the service ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"the service does not answer: {log.read_text()[-2000:]}")


def stop():
    if not state.exists():
        return
    pid = int(state.read_text())
    os.kill(pid, 15)
    while runs(pid):
        time.sleep(0.05)
    state.unlink()


def runs(pid):
    try:
        return "\nState:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends between opening and reading
        return False


if "journalctl" in sys.argv[0]:
    print(log.read_text())
elif "profession-simulator" in sys.argv:
    if sys.argv[1] in {"stop", "restart"}:
        stop()
    if sys.argv[1] in {"start", "restart", "enable"}:
        start()
"""
# No certificate is to be had for a name that is nobody's; nginx is content with one of the site's own.
CERTBOT = r"""#!/bin/sh
mkdir -p "/etc/letsencrypt/live/$NAME"
cd "/etc/letsencrypt/live/$NAME"
openssl req -x509 -newkey rsa:2048 -nodes -subj "/CN=$NAME" -keyout privkey.pem -out fullchain.pem -days 2 2>/dev/null
"""
# What a line of the page is run as, because it asks somebody who is not there.
INSTEAD = {
    'profession-simulator verify --url "https://$NAME"': "profession-simulator verify",
    "profession-simulator changepassword staff": (
        "printf 'a long pass phrase\\na long pass phrase\\n' | profession-simulator changepassword staff 2>/dev/null"
    ),
}
# A bare host has no curl.
ASK = """python3 -c '
import sys, urllib.request
print(urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:" + sys.argv[1] + "/", headers={
    "Host": sys.argv[2], "X-Forwarded-Proto": "https"})).read().decode())'"""
LOG_IN = r"""python3 -c '
import re, sys, urllib.parse, urllib.request
place = "http://127.0.0.1:8000/accounts/login/"
headers = {"Host": sys.argv[1], "X-Forwarded-Proto": "https", "Referer": "https://" + sys.argv[1] + "/"}
page = urllib.request.urlopen(urllib.request.Request(place, headers=headers))
headers["Cookie"] = page.headers["Set-Cookie"].split(";")[0]
form = {"login": "staff", "password": sys.argv[2],
    "csrfmiddlewaretoken": re.search("csrfmiddlewaretoken. value=.([^\"]+)", page.read().decode())[1]}
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *a): return None
try:
    sent = urllib.request.Request(place, urllib.parse.urlencode(form).encode(), headers)
    urllib.request.build_opener(Stay).open(sent)
    print("refused")
except urllib.error.HTTPError as answer:
    print("let in" if answer.code == 302 else answer.code)'"""


def blocks(title: str) -> list[str]:
    """Return the blocks of code under a heading of deploy/README.md."""
    page = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section, title
    return re.findall(r"^```\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)


def lines(title: str) -> str:
    """Return the lines under a heading as they are run."""
    written = "".join(blocks(title)).splitlines()
    return "\n".join(INSTEAD.get(line, line) for line in written) + "\n"


SHELL = f"export REPOSITORY=/srv/origin.git NAME=try.example.org\ncd {HOME} 2>/dev/null || cd /root\nset -eux\n"


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def debian(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """A bare host that can fetch this project with git."""
    made = Debian(request.param, tmp_path_factory.mktemp("debian"))
    origin = made.root / "srv" / "origin.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(origin)], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    subprocess.run(["git", "update-ref", "refs/heads/main", head.strip()], cwd=origin, check=True)
    subprocess.run(["git", "symbolic-ref", "HEAD", "refs/heads/main"], cwd=origin, check=True)
    made.write(
        "/etc/gitconfig", "[safe]\n\tdirectory = /srv/origin.git\n"
    )  # the owner is another, as on no real server
    subprocess.run(["git", "clone", "--quiet", str(origin), str(made.root / "root" / "clone")], check=True)
    for name in ("systemctl", "journalctl"):
        made.write(f"/usr/local/bin/{name}", SYSTEMCTL)
    made.write("/usr/local/bin/certbot", CERTBOT)
    yield made
    shutil.rmtree(made.root)  # pytest would keep some hundred megabytes for each of the last runs


def test_a_fresh_clone_runs_with_make_and_python_alone(debian: Debian) -> None:
    install = "apt-get update && apt-get install --yes --no-install-recommends"
    debian.done(f"{install} make python3 >/dev/null")
    without = debian.run("cd /root/clone && make run")
    assert without.returncode != 0
    assert "Python 3.11 or later with its venv module is needed (Debian: apt install python3-venv)." in without.stdout
    debian.done(f"{install} python3-venv >/dev/null")
    debian.done("cd /root/clone && make prepare")
    page = debian.done(
        "cd /root/clone; make run >/var/log/run 2>&1 & pid=$!\n"
        "until grep -q 'Serving on' /var/log/run; do\n"
        "kill -0 $pid || { cat /var/log/run; exit 1; }; sleep 0.1; done\n"
        f"{ASK} 8000 127.0.0.1; grep password /var/log/run",
        network=False,
    )
    assert "Made the first staff account" in page
    assert re.search(r"/static/vendor/bootstrap\.min\.[0-9a-f]{12}\.css", page), "third-party files came without npm"


def test_the_lines_of_the_page_lead_to_a_running_site_and_back(debian: Debian) -> None:
    debian.done(SHELL + lines("Install"))
    printed = debian.done(
        SHELL + lines("Set") + lines("Start") + "stat -c %a:%U:%G /etc/profession-simulator.env", network=False
    )
    assert re.search(r"user staff, password \S{20}", printed)
    assert "640:root:simulator" in printed

    going = "systemctl start profession-simulator\n"
    opened = debian.done(SHELL + going + lines("Open it to the world") + f"{ASK} 8000 $NAME", network=False)
    assert "syntax is ok" in opened
    assert "ok   stream" in opened
    assert "/static/" in opened

    forgotten = lines("A forgotten staff password")
    tries = f"{LOG_IN} $NAME 'a wrong pass phrase'\n{LOG_IN} $NAME 'a long pass phrase'"
    entered = debian.done(SHELL + going + forgotten + tries, network=False)
    assert re.findall(r"^(refused|let in|\d+)$", entered, re.MULTILINE) == ["refused", "let in"]

    back_up, restore = blocks("Back up and restore")
    people = "profession-simulator shell -v 0 -c 'from accounts.models import User; "
    count, add = f'{people} print("people", User.objects.count())\'\n', f"{people} User.objects.create()'\n"
    restored = debian.done(SHELL + going + back_up + add + count + restore + count, network=False)
    assert re.findall(r"^people (\d+)$", restored, re.MULTILINE) == ["2", "1"]
    assert "Restored the database of" in restored

    change = (
        "git config --global user.name x; git config --global user.email x\n"
        "git clone --quiet /srv/origin.git /root/next\n"
        "cd /root/next && echo '# later' >> manage.py && git commit --quiet --all --message later && git push --quiet\n"
        f"cd {HOME}\n"
    )
    look = (
        f"tail -n 1 {HOME}/site/manage.py; {ASK} 8000 $NAME | grep -c /static/; systemctl stop profession-simulator\n"
    )
    update = lines("Update") + look + 'echo "$BEFORE" > /root/before; echo "$BACKUP" > /root/backup\n'
    updated = debian.done(SHELL + going + change + update, network=False)
    assert "\n# later\n" in updated

    earlier = "BEFORE=$(cat /root/before) BACKUP=$(cat /root/backup)\n"
    gone_back = debian.done(SHELL + earlier + add + lines("Go back") + count + look, network=False)
    assert "\n# later\n" not in gone_back
    assert re.findall(r"^people (\d+)$", gone_back, re.MULTILINE) == ["1"]

    again = debian.done(SHELL + going + lines("Update") + look, network=False)
    assert "\n# later\n" in again
    kept = debian.done(f"stat -c %a:%U:%n {STATE} {STATE}/* {STATE}/backups/*; ls -A {STATE}")
    assert f"700:simulator:{STATE}\n" in kept
    assert [line for line in kept.splitlines() if f":simulator:{STATE}/" in line and line[1:3] != "00"] == []
    assert ".restore-" not in kept


def test_units_are_what_systemd_can_use_and_leave_little_open(tmp_path: Path) -> None:
    analyze = required("systemd-analyze")
    for unit in UNITS:
        # The folders are those of a server; only the command has to be there.
        text = unit.read_text(encoding="utf-8")
        (tmp_path / unit.name).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
        verified = subprocess.run(
            [analyze, "verify", str(tmp_path / unit.name)], capture_output=True, text=True, check=False
        )
        assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
        judged = subprocess.run(
            [analyze, "security", "--offline=true", str(unit)], capture_output=True, text=True, check=True
        )
        exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
        assert exposure, judged.stdout
        assert float(exposure[1]) <= MOST_EXPOSED, unit.name
        assert "StateDirectoryMode=0700\nUMask=0077\n" in text


def test_an_install_that_was_interrupted_is_repaired_by_the_next(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    idna = re.search(r"^idna==.*?(?=^\S)", lock, re.MULTILINE | re.DOTALL)
    assert idna
    (tmp_path / "requirements.txt").write_text(idna[0], encoding="utf-8")

    def install() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["make", ".venv/.run"], cwd=tmp_path, capture_output=True, text=True, check=False)

    def works() -> bool:
        return subprocess.run([tmp_path / ".venv/bin/python", "-c", "import idna"], check=False).returncode == 0

    assert install().returncode == 0
    assert works()
    (packages,) = (tmp_path / ".venv" / "lib").glob("python3*/site-packages")
    # pip was killed while it put files in place
    (tmp_path / ".venv" / ".run").unlink()
    shutil.rmtree(packages / "idna")
    assert install().returncode == 0
    assert works()
    # the system's Python has become another one, which has other folders
    packages.parent.rename(packages.parent.with_name("python3.0"))
    assert install().returncode == 0
    assert works()
    # venv was killed before it had brought pip
    (tmp_path / ".venv" / ".run").unlink()
    shutil.rmtree(packages)
    assert install().returncode == 0
    assert works()
