import secrets
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models
from django.utils.translation import gettext_lazy as _


class UserManager(DjangoUserManager["User"]):
    def create_guest(self) -> "User":
        """Make a person who can do everything a learner can, but cannot log in again elsewhere."""
        guest = self.model(username=f"guest-{secrets.token_hex(8)}", is_guest=True)
        guest.set_unusable_password()
        guest.save(using=self._db)
        return guest


class User(AbstractUser):
    is_guest = models.BooleanField(_("guest"), default=False, help_text=_("Tries the site without an account."))

    objects: ClassVar[UserManager] = UserManager()

    class Meta(AbstractUser.Meta):
        pass

    @property
    def display_name(self) -> str:
        return str(_("Guest")) if self.is_guest else self.get_full_name() or self.username
