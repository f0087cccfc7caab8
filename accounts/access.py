"""By what somebody reads an open stream, and whether that still holds."""

from collections.abc import Collection
from dataclasses import dataclass, field

from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils import timezone
from knox.models import AuthToken

from accounts.current import asigned_in
from accounts.models import User
from accounts.tokens import token_of


@dataclass(frozen=True, slots=True)
class Access:
    """A token, or a session that was made with a person's password of that time (its hash)."""

    user_id: int
    token: str = field(repr=False, default="")
    session: str = field(repr=False, default="")
    password: str = field(repr=False, default="")


async def access_of(request: HttpRequest) -> Access:
    """Return by what the person of this request was let in. Raises Problem, 401, when there is none."""
    user = await asigned_in(request)
    if token := token_of(request):
        return Access(user.pk, token=token)
    return Access(user.pk, session=request.session.session_key or "", password=user.password)


def in_force(accesses: Collection[Access]) -> set[Access]:
    """Return those by which a request would be let in now."""
    now = timezone.now()
    tokens = AuthToken.objects.filter(pk__in={access.token for access in accesses if access.token}, expiry__gt=now)
    by_session = [access for access in accesses if not access.token]
    sessions = Session.objects.filter(pk__in={access.session for access in by_session}, expire_date__gt=now)
    people = User.objects.filter(pk__in={access.user_id for access in by_session})
    valid_tokens, valid_sessions = set(tokens.values_list("pk", flat=True)), set(sessions.values_list("pk", flat=True))
    passwords = dict(people.values_list("pk", "password"))
    return {
        access
        for access in accesses
        if access.token in valid_tokens
        or (access.session in valid_sessions and access.password == passwords.get(access.user_id))
    }
