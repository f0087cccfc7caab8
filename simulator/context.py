"""What every template may know of the site."""

from django.conf import settings
from django.http import HttpRequest

from generation.toy import TOY_MODEL
from generation.upstream import candidates


def site(request: HttpRequest) -> dict[str, bool]:
    return {
        "allow_guests": settings.ALLOW_GUESTS,
        "sends_mail": settings.SENDS_MAIL,
        "writes_with_model": candidates.any_configured(),
        "writes_with_toy": settings.OPENAI_MODEL == TOY_MODEL,
    }
