"""The folder that holds what the site makes: database, key, static files; its owner's alone, whatever the umask is."""

import logging
import os
import pwd
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simulator.environment import Unusable, UnusableSettings, secret_key
from simulator.whole_file import whole_file

logger = logging.getLogger("simulator.var_folder")

# What the site itself puts there. A folder that holds anything else may have other users, who would be locked out.
OWN = re.compile(r"(db|test)\.sqlite3([-.].*)?|secret_key.*|static|\.[^/]*")


@contextmanager
def _sentences(what: str, path: Path) -> Iterator[None]:
    """Raise what the system refuses as a sentence."""
    try:
        yield
    except OSError as error:
        raise UnusableSettings(
            f"{what} {path} cannot be used: {error.strerror}. Make room and let the user {_user(os.geteuid())} write "
            "there, or name another folder in VAR_DIR"
        ) from error


def make(folder: Path) -> None:
    """Make the folder for its owner alone; raises UnusableSettings where nobody could work in it."""
    with _sentences("the folder", folder):
        if folder.is_file():
            raise UnusableSettings(f"VAR_DIR is {folder}, which is a file; name a folder")
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700)
            folder.chmod(0o700)
        if folder.stat().st_mode & stat.S_ISVTX:
            raise UnusableSettings(
                f"VAR_DIR is {folder}, which is shared by everybody; name a folder that is the site's own, such as "
                f"{folder / 'profession-simulator'}"
            )
        # Not os.access, which believes that root may write to a file system that is read-only.
        with tempfile.TemporaryFile(dir=folder):
            pass


def keep_secret_key(folder: Path) -> str:
    """Return the key kept in the folder, made on the first start and readable by the owner alone."""
    path = folder / "secret_key"
    with _sentences("the file", path):
        # Another process that starts at the same moment may be faster; both use its key then.
        with suppress(FileExistsError), whole_file(path) as file:
            file.write(secrets.token_urlsafe(64).encode())
        text = path.read_bytes().decode("ascii", "replace").strip()
    try:
        return secret_key(text)
    except Unusable as fault:
        raise UnusableSettings(
            f"{path} is damaged (it holds {len(text)} characters); restore it from a backup, or delete it: a new one "
            "is made, and everybody has to log in again"
        ) from fault


def check_database(file: Path) -> None:
    """Raise UnusableSettings unless this user can read and write the file, or make it."""
    with _sentences("the database", file):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not file.exists():
            return
        if not file.is_file():
            raise UnusableSettings(
                f"{file} is no file; name one in DATABASE_URL, such as sqlite:////srv/site/db.sqlite3"
            )
        # Closing it would end the locks of this process's connections: there is none while settings are read.
        file.open("r+b").close()


def tighten(folder: Path, database: Path | None) -> None:
    """Close to others what an earlier version left open, where it is the site's own."""
    for path in (folder, folder / "secret_key", *(_parts_of(database) if database else ())):
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        if not mode & 0o077:
            continue
        entries = path.iterdir() if path.is_dir() else ()
        foreign = sorted(entry.name for entry in entries if not OWN.fullmatch(entry.name))
        if foreign:
            logger.warning("%s can be read by others, and stays so because it holds %r too", path, foreign[0])
        elif path.stat().st_uid != os.geteuid():
            logger.warning("%s can be read by others and belongs to %s", path, _user(path.stat().st_uid))
        else:
            path.chmod(mode & 0o700)
            logger.warning("%s could be read by others; now only its owner can", path)


def _parts_of(database: Path) -> list[Path]:
    return [database, *(database.with_name(database.name + end) for end in ("-wal", "-shm", ".serving"))]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
