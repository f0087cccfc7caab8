"""Whether the database can be used, and what to do when it cannot, in a sentence."""

from django.conf import settings
from django.db import DatabaseError, connection

REMEDIES = {
    "not a database": "Restore it from a backup, or move it away",
    "malformed": "Restore it from a backup, or move it away",
    "disk i/o error": "Make room on its disk, and see whether that disk is sound",
    "full": "Make room on its disk",
    "readonly": "Let the user who serves write into it and its folder",
    "unable to open": "Let the user who serves write into it and its folder",
    "locked": "Stop whatever else holds it",
    "password": "Look at the user and the password in DATABASE_URL",
    "ssl": "Look at sslmode in DATABASE_URL",
    "no such table": "Run manage.py migrate, or start the site once",
    "does not exist": "Make it, or look at the name in DATABASE_URL",
}
OTHERWISE = "Look at DATABASE_URL, and whether a database answers there"


def connect_once() -> None:
    """Connect beside the pool, which would hide the reason and try for half a minute."""
    single = connection.copy()
    single.settings_dict["OPTIONS"].pop("pool", None)
    try:
        single.ensure_connection()
    finally:
        single.close()


def sentence(error: DatabaseError) -> str:
    reason = " ".join(str(error).split())
    remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in reason.lower()), OTHERWISE)
    return f"The database {_place()} cannot be used: {reason.rstrip('.?')}. {remedy}"


def _place() -> str:
    database = settings.DATABASES["default"]
    if not database.get("HOST"):
        return str(database["NAME"])
    return f"{database['NAME']} at {database['HOST']}" + (f" port {database['PORT']}" if database["PORT"] else "")
