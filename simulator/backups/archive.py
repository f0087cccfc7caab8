"""The file format: a zip of the database, the secret key, and a manifest with the digest of each.

Nothing in an archive names a place to write to: a file of another name or number is refused.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

FORMAT = 1
MANIFEST, DATABASE, KEY = "manifest.json", "database", "secret_key"
MOST_BYTES = {MANIFEST: 1024 * 1024, KEY: 4096}
CHUNK_BYTES = 1024 * 1024


class BackupError(Exception):
    """Why a backup cannot be made or restored, in a sentence."""


@dataclass(frozen=True)
class Manifest:
    engine: str
    created: str
    migrations: list[str]
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each other file, in hexadecimal."""
    format: int = FORMAT


def write_archive(path: Path, manifest: Manifest, folder: Path) -> None:
    """Write database and key, which are in a folder, and a manifest into a file that does not exist yet."""
    with _new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (DATABASE, KEY):
            with (folder / name).open("rb") as source:
                manifest.digests[name] = hashlib.file_digest(source, "sha256").hexdigest()
            archive.write(folder / name, name)
        archive.writestr(MANIFEST, json.dumps(asdict(manifest)))


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file, readable by its owner alone, that appears at `path` when it is complete, and overwrites nothing."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists():
        raise BackupError(f"{path} exists already; write the backup to another place.")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(name, path)  # unlike a rename, it fails where somebody else has written in the meantime
        except FileExistsError as error:
            raise BackupError(f"{path} exists already; write the backup to another place.") from error
        except OSError:  # a file system without hard links
            Path(name).rename(path)
    finally:
        Path(name).unlink(missing_ok=True)


def unpack(path: Path, folder: Path) -> Manifest:
    """Write database and key into a folder and return the manifest. Raises BackupError unless everything is sound."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            methods = {member.compress_type for member in archive.infolist()}
            if len(archive.infolist()) != 3 or sizes.keys() != {MANIFEST, DATABASE, KEY}:
                raise BackupError(f"{path} is not a backup of this site.")
            if methods - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise BackupError(f"{path} is not a backup of this site.")
            limits = MOST_BYTES | {DATABASE: shutil.disk_usage(folder).free}
            if too_large := [name for name, size in sizes.items() if size > limits[name]]:
                raise BackupError(
                    f"{path} needs more room than there is in {folder.parent}: {too_large[0]} is too large."
                )
            manifest = _read_manifest(archive.read(MANIFEST))
            for name in (DATABASE, KEY):
                if _extract(archive, name, folder / name) != manifest.digests.get(name):
                    raise BackupError(f"{path} is damaged: {name} is not what was written.")
    except FileNotFoundError as error:
        raise BackupError(f"{path} does not exist.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BackupError(f"{path} is damaged, or not a backup: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{path} is not a backup that this version of the site can read.") from error
    return manifest


def _read_manifest(raw: bytes) -> Manifest:
    """Raise ValueError, KeyError or TypeError for anything else than a manifest."""
    values = json.loads(raw)
    if values["format"] != FORMAT:
        raise ValueError("another format")
    datetime.fromisoformat(values["created"])
    return Manifest(
        engine=str(values["engine"]),
        created=str(values["created"]),
        migrations=[str(name) for name in values["migrations"]],
        digests=dict(values["digests"]),
    )


def _extract(archive: zipfile.ZipFile, name: str, target: Path) -> str:
    """Write a member into a file readable by its owner alone, and return its SHA-256."""
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, archive.open(name) as member:
        while chunk := member.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(descriptor)
    return digest.hexdigest()
