"""A database that cannot be used at the moment: whether an error says so, and whether it takes writes."""

from django.db import InterfaceError, OperationalError, connection

# After how many seconds a client may ask again.
RETRY_SECONDS = 5


def is_unavailable(error: BaseException | None) -> bool:
    """Return whether an error speaks of the database's condition, and not of a mistake of ours or a bad value."""
    # SQLite calls a missing table or column operational too.
    return isinstance(error, (OperationalError, InterfaceError)) and not str(error).startswith("no such ")


def try_a_write() -> None:
    """Write a few bytes that change nothing. Raises DatabaseError where the database is gone, full or read-only."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            # A number in the file's header that is there for applications; writing it writes that page.
            cursor.execute("PRAGMA user_version")
            (number,) = cursor.fetchone()
            cursor.execute(f"PRAGMA user_version = {int(number)}")
        else:
            cursor.execute("SELECT pg_current_xact_id()")
