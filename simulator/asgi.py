"""The one way this site is served: ASGI. Streams need it; there is no WSGI entry point."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "simulator.settings")

application = get_asgi_application()
