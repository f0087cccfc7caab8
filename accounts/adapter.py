"""What this site does differently from allauth: how it counts wrong passwords, and how it sends mail."""

import logging
import smtplib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from allauth.account.forms import ChangePasswordForm, SignupForm
from allauth.account.internal.flows.login import get_authentication_records, record_authentication
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.password_validation import get_default_password_validators, password_validators_help_text_html
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import attempts
from accounts.guests import GuestAwareAdapter, guest_became_user
from accounts.models import User
from accounts.passwords import EndTokens
from web.zones import keep_choice

logger = logging.getLogger("accounts.mail")


class AccountAdapter(GuestAwareAdapter):
    # Logging in

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count nothing here: allauth counts in the cache, by what was typed; `authenticate` counts by account."""

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        names = list(dict.fromkeys(str(credentials[kind]) for kind in ("username", "email") if credentials.get(kind)))
        accounts = attempts.accounts_meant(names)
        attempts.refuse_paused(request, accounts)
        attempt = attempts.of_names(request, names, accounts)
        attempt.begin()
        if len(accounts) == 1:
            # By the one name, whatever was typed: then a known address takes as long as an unknown one.
            credentials = {"username": accounts[0].username, "password": credentials.get("password")}
        user: User | None = super().authenticate(request, **credentials)
        if user is None:
            attempts.count_wrong(request)
        else:
            attempt.right(attempts.who(request, user))
        return user

    def reauthenticate(self, user: User, password: str) -> bool:
        """Check the password of somebody who is logged in already."""
        who = attempts.who(context.request, user)
        attempt = attempts.Attempt(attempts.PASSWORDS, [who])
        attempt.begin()
        if not user.check_password(password):
            return False
        attempt.right(who)
        return True

    def set_password(self, user: User, password: str) -> None:
        super().set_password(user, password)
        attempts.forget(user)

    def login(self, request: HttpRequest, user: User) -> None:
        before: object = getattr(request, "guest", request.user)
        # Logging in ends a guest's session, where it stands how this person has proved who they are.
        records = list(get_authentication_records(request, user))
        super().login(request, user)
        if not get_authentication_records(request, user):
            for record in records:
                record_authentication(request, user, **record)
        if isinstance(before, User) and before.is_guest and user != before:
            guest_became_user.send(sender=type(self), guest=before, user=user)

    def post_login(self, request: HttpRequest, user: User, **more: Any) -> HttpResponse:
        response: HttpResponse = super().post_login(request, user, **more)
        attempts.remember_device(request, response, user)
        if user.timezone:
            keep_choice(response, user.timezone, is_secure=request.is_secure())
        return response

    # Mail

    def send_mail(self, template_prefix: str, email: str, context: Mapping[str, Any]) -> None:
        """Send a mail whose links lead to SITE_URL.

        Raises:
            ImmediateHttpResponse: back to the page asked from, with a sentence, when the mail server does not take it.
        """
        if not settings.SENDS_MAIL:
            return
        request = self.request
        site = {"current_site": {"name": _("Profession simulator"), "domain": urlsplit(settings.SITE_URL).netloc}}
        links = {name: _public(request, value) if isinstance(value, str) else value for name, value in context.items()}
        try:
            super().send_mail(template_prefix, email, site | links)
        except (OSError, smtplib.SMTPException) as error:
            logger.error("mail could not be sent, look at EMAIL_URL: %s", _reason(error))  # noqa: TRY400  # the reason is enough
            messages.error(
                request,
                _("The e-mail could not be sent. Try again later, or ask your teacher or whoever runs this site."),
            )
            raise ImmediateHttpResponse(redirect(request.path)) from error

    def get_reset_password_from_key_url(self, key: str) -> str:
        return _public(self.request, super().get_reset_password_from_key_url(key))


class CountedChangePasswordForm(ChangePasswordForm):  # type: ignore[misc]  # allauth ships no types
    def clean_oldpassword(self) -> str:
        password: str = self.cleaned_data["oldpassword"]
        if not AccountAdapter(context.request).reauthenticate(self.user, password):
            raise AccountAdapter(context.request).validation_error("enter_current_password")
        return password


class FirstPasswordForm(SignupForm):  # type: ignore[misc]  # allauth ships no types
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rules = [rule for rule in get_default_password_validators() if not isinstance(rule, EndTokens)]
        self.fields["password1"].help_text = password_validators_help_text_html(rules)


def _public(request: HttpRequest, address: str) -> str:
    """Return an address of this site as it begins in SITE_URL, whatever host the request named."""
    here = request.build_absolute_uri("/")
    return f"{settings.SITE_URL}/{address.removeprefix(here)}" if address.startswith(here) else address


def _reason(error: OSError | smtplib.SMTPException) -> str:
    match error:
        case smtplib.SMTPResponseException():
            return f"{type(error).__name__} {error.smtp_code}"
        case smtplib.SMTPException():
            return type(error).__name__  # its text holds the address
        case _:
            return f"{type(error).__name__}: {error}"
