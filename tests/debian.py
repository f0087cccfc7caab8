"""Bare Debian systems in folders, in which a test does what a person would do on a host of their own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.waiting import IN_CI, required

# What of this machine's own set-up is needed to reach package registries, wherever it has any of it.
VARIABLES = re.compile(
    r"PIP_\w+|npm_config_\w+|\w+_CA_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|(https?|no)_proxy", re.IGNORECASE
)
FILES = ["/etc/pip.conf", "/etc/xdg/pip", "/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"]
OF_A_USER = [".config/pip", ".pip", ".npmrc"]
NAMED_PATHS = re.compile(r"(?:file://)?(/[\w./+-]+)")
# /proc and /dev are there only while a command runs, and all that it has started ends with it.
ISOLATED = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
ENTER = """
root=$1 loopback=$2 script=$3; shift 3
mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev"
for folder; do mkdir -p "$root$folder" && mount --bind -o ro "$folder" "$root$folder"; done
test -z "$loopback" || ip link set lo up
exec chroot "$root" /bin/sh -c "$script"
"""
OF_A_HOST = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Debian:
    """A minimal Debian of a release, made anew in a folder."""

    def __init__(self, release: str, folder: Path) -> None:
        self.root = folder / release
        if os.geteuid() != 0:
            (pytest.fail if IN_CI else pytest.skip)("only root can make a Debian system")
        make = [required("debootstrap"), "--variant=minbase", "--include=ca-certificates", release, str(self.root)]
        subprocess.run([*make, _mirror()], check=True, stdout=subprocess.DEVNULL)
        self.folders: list[str] = []
        self._bring_the_way_to_registries()
        self.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")  # packages start no services

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)

    def _bring_the_way_to_registries(self) -> None:
        environment = {name: value for name, value in os.environ.items() if VARIABLES.fullmatch(name)}
        named = "\n".join(environment.values())
        user = {f"/etc/skel/{name}": Path.home() / name for name in OF_A_USER}
        user |= {f"/root/{name}": Path.home() / name for name in OF_A_USER}
        for target, source in (user | {name: Path(name) for name in FILES}).items():
            if source.is_dir():
                shutil.copytree(source, self.root / target.lstrip("/"), dirs_exist_ok=True)
            elif source.exists():
                self.write(target, source.read_text())
            for file in [source, *source.rglob("*")]:
                named += "\n" + (file.read_text() if file.is_file() else "")
        paths = {Path(match) for match in NAMED_PATHS.findall(named)}
        for path in {
            path.parent if path.name == "simple" else path for path in paths
        }:  # an index names files beside it
            if path.is_file():
                self.write(str(path), path.read_text())
            elif path.is_dir() and not (self.root / str(path).lstrip("/")).exists():
                self.folders.append(str(path))
        shutil.copytree(
            "/usr/local/share/ca-certificates", self.root / "usr/local/share/ca-certificates", dirs_exist_ok=True
        )
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        shutil.copy("/etc/hosts", self.root / "etc/hosts")
        dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
        wanted = [line for line in dumped.splitlines() if re.match(r"Acquire::(https?|Check-\w+)\b", line)]
        self.write("/etc/apt/apt.conf.d/99machine", "\n".join([*wanted, ""]))
        self.environment = environment | OF_A_HOST

    def run(self, script: str, *, network: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a script as root. Without network it has a loopback of its own, on which all ports are free."""
        isolated = [*ISOLATED, *([] if network else ["--net"])]
        loopback = "" if network else "up"
        return subprocess.run(
            [*isolated, "sh", "-euc", ENTER, "sh", str(self.root), loopback, script, *self.folders],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def done(self, script: str, *, network: bool = True) -> str:
        done = self.run(script, network=network)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout


def _mirror() -> str:
    """Find the address from which this machine has Debian's own packages."""
    wanted = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(wanted, capture_output=True, text=True, check=True).stdout
    mirrors = re.findall(r"^Debian (\S+)$", listed, re.MULTILINE)
    if not mirrors:
        (pytest.fail if IN_CI else pytest.skip)("this machine has no mirror of Debian")
    return str(mirrors[0])
