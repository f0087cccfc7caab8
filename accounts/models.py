import secrets
from datetime import timedelta
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models
from django.db.models import F
from django.db.models.functions import Greatest, Now
from django.utils.translation import gettext_lazy as _
from knox.models import AuthToken

# Longer than any statement takes, so that no row is deleted between its creation and its first count.
KEEP_FREE_FOR = timedelta(hours=1)


class UserManager(DjangoUserManager["User"]):
    def create_guest(self) -> "User":
        """Make a person who can do everything a learner can, but cannot log in again elsewhere."""
        guest = self.model(username=f"guest-{secrets.token_hex(8)}", is_guest=True)
        guest.set_unusable_password()
        guest.save(using=self._db)
        return guest


class User(AbstractUser):
    is_guest = models.BooleanField(_("guest"), default=False, help_text=_("Tries the site without an account."))

    timezone = models.CharField(
        _("time zone"), max_length=64, blank=True, help_text=_("Chosen by the person; empty: as their browser says.")
    )

    objects: ClassVar[UserManager] = UserManager()

    class Meta(AbstractUser.Meta):
        pass

    def set_unusable_password(self) -> None:
        """Remove the password, and with it the tokens, as a new password does (accounts/passwords.py)."""
        super().set_unusable_password()
        if self.pk is not None:
            self.end_tokens()

    def end_tokens(self) -> None:
        AuthToken.objects.filter(user=self).delete()

    @property
    def display_name(self) -> str:
        return str(_("Guest")) if self.is_guest else self.get_full_name() or self.username


class RateCountQuerySet(models.QuerySet["RateCount"]):
    def take(self, key: str, *, burst: int, refill: timedelta) -> bool:
        """Count one more, or return False when the limit is reached: one conditional update, so that parallel
        requests share it. The clock is the database's, because processes may run on machines whose clocks differ."""
        self.bulk_create([RateCount(key=key, free_at=Now())], ignore_conflicts=True)
        room = self.filter(key=key, free_at__lte=Now() + (burst - 1) * refill)
        return bool(room.update(free_at=Greatest(F("free_at"), Now()) + refill))

    def free(self) -> "RateCountQuerySet":
        """Rows that count nothing any more."""
        return self.filter(free_at__lt=Now() - KEEP_FREE_FOR)


class RateCount(models.Model):
    """How much of a limit somebody has used, in one number: the moment at which all that was counted is forgotten.

    Each count moves it on by the time in which one is refilled (the generic cell rate algorithm, a bucket that leaks).
    A row of its own cannot be pushed out by other traffic, as an entry of a cache can.
    """

    key = models.CharField(max_length=64, primary_key=True)
    free_at = models.DateTimeField(db_index=True)

    objects = RateCountQuerySet.as_manager()

    def __str__(self) -> str:
        return self.key
