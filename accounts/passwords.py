"""What a new password ends."""

from django.utils.translation import gettext as _

from accounts.models import User


class EndTokens:
    """A password validator that takes every password and ends a person's tokens when a new one is stored.

    Django tells every validator of a stored password, whichever way it came: changed, set or reset by its owner, by
    staff, or by `manage.py changepassword`; and not when it stores the same password under a better hash. Sessions
    other than the one it was changed in end by themselves: each holds a hash of the password.
    """

    def validate(self, password: str, user: User | None = None) -> None:
        """Accept every password; what follows from a new one is below."""

    def get_help_text(self) -> str:
        return _("A new password ends your other sessions and your tokens.")

    def password_changed(self, password: str, user: User | None = None) -> None:
        if user is not None:
            user.end_tokens()
