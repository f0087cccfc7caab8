"""What people read on the pages of the account."""

import pytest
from allauth.account.models import EmailAddress
from django.test import Client as DjangoClient
from django.test import override_settings

from accounts.models import User

ENDS_OTHERS = "A new password ends your other sessions"


@pytest.mark.django_db
@pytest.mark.usefixtures("static_files")
def test_only_who_has_a_password_is_told_what_another_one_ends(client: DjangoClient, alice: User) -> None:
    page = client.get("/accounts/signup/").text
    assert "at least 10 characters" in page
    assert ENDS_OTHERS not in page
    client.force_login(alice)
    assert ENDS_OTHERS in client.get("/accounts/password/change/").text


@pytest.mark.django_db
@pytest.mark.usefixtures("static_files")
@pytest.mark.parametrize("sends_mail", [True, False])
def test_a_confirmation_is_offered_only_where_mail_is_sent(client: DjangoClient, alice: User, sends_mail: bool) -> None:
    client.force_login(alice)
    EmailAddress.objects.create(user=alice, email="new@example.org")
    with override_settings(SENDS_MAIL=sends_mail):
        page = client.get("/accounts/email/").text
    assert "new@example.org" in page
    assert ("action_send" in page) == sends_mail
    assert ("not confirmed" in page) == sends_mail


@pytest.mark.django_db
@pytest.mark.usefixtures("static_files")
def test_a_link_that_works_no_more_says_so_and_leads_on(client: DjangoClient) -> None:
    page = client.get("/accounts/password/reset/key/1-abc-def/").text
    assert "This link works no more" in page
    assert 'href="/accounts/password/reset/"' in page
