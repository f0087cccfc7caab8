#!/usr/bin/env python
"""Django's command line for this project; `manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "simulator.settings")
    os.umask(0o077)  # the database and its log are made by SQLite, and hold live sessions
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    from simulator.environment import UnusableSettings

    try:
        execute_from_command_line(sys.argv)
    except UnusableSettings as unusable:
        if sys.argv[1:2] == ["verify"]:
            lines = [f"FAIL settings: {line}" for line in str(unusable).splitlines()]
            sys.stdout.write("\n".join([*lines, "The other checks need these settings and were not made.\n"]))
            sys.exit(1)
        sys.exit(str(unusable))
    except OperationalError as error:
        from simulator import database

        sys.exit(database.sentence(error))


if __name__ == "__main__":
    main()
