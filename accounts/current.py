"""Who asks."""

from django.http import HttpRequest
from rest_framework.request import Request

from accounts.models import User
from simulator.problems import NOT_SIGNED_IN, Problem


def signed_in(request: HttpRequest | Request) -> User:
    """Give the person logged in, a guest included.

    Raises:
        Problem: 401 when there is none.
    """
    user = request.user
    if not user.is_authenticated:
        raise Problem(NOT_SIGNED_IN, code="not_authenticated", status=401)
    return user


async def asigned_in(request: HttpRequest) -> User:
    """Do what `signed_in` does, on the event loop."""
    user = await request.auser()
    if not user.is_authenticated:
        raise Problem(NOT_SIGNED_IN, code="not_authenticated", status=401)
    return user
