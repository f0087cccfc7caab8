"""Static files: served by WhiteNoise without a thread per request, named by their content."""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.files import File
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage

THIRD_PARTY = "vendor/"


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # WhiteNoise ships no types
    """WhiteNoise's middleware for an asynchronous stack.

    WhiteNoise's own is synchronous, and one synchronous middleware makes Django run everything below it, streams
    included, through a thread. Finding a file is a look-up in a dictionary and needs none.
    """

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        super().__init__(get_response)
        self.get_next = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        path = request.path_info
        static_file = self.find_file(path) if self.autorefresh else self.files.get(path)
        if static_file is None:
            return await self.get_next(request)
        found = static_file.get_response(request.method, request.META)
        # Read at once: handing out an open file would take a thread, and these are small and in the kernel's cache.
        body = found.file.read() if found.file is not None else b""
        response = HttpResponse(body, status=int(found.status))
        del response["Content-Type"]
        for name, value in found.headers:
            response[name] = value
        return response


class HashedModulesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # WhiteNoise ships no types
    """Names with a hash of the content, in `import` statements of ES modules too."""

    support_js_module_import_aggregation = True

    def hashed_name(self, name: str, content: File[bytes] | None = None, filename: str | None = None) -> str:
        # Third-party files are there only where npm could be reached; the pages work as plain text without them.
        if name.startswith(THIRD_PARTY) and content is None and not self.exists(filename or name):
            return name
        hashed: str = super().hashed_name(name, content, filename)
        return hashed

    def stored_name(self, name: str) -> str:
        if name.startswith(THIRD_PARTY) and self.hash_key(name) not in self.hashed_files:
            return name
        stored: str = super().stored_name(name)
        return stored


def collect_if_changed() -> None:
    """Collect the static files unless those collected last are the same; hashing and compressing takes seconds."""
    fingerprint = _fingerprint()
    stamp = Path(settings.STATIC_ROOT) / ".fingerprint"
    if stamp.exists() and stamp.read_text(encoding="ascii") == fingerprint:
        return
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    stamp.write_text(fingerprint, encoding="ascii")


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for finder in finders.get_finders():
        for path, storage in finder.list([]):
            stat = Path(storage.path(path)).stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
