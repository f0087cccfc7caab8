from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.utils.translation import gettext_lazy as _

from accounts.models import User


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    list_display = ["username", "email", "is_guest", "is_staff", "date_joined", "last_login"]
    list_filter = ["is_guest", "is_staff", "is_active", "groups"]
    date_hierarchy = "date_joined"
    fieldsets = [*(DjangoUserAdmin.fieldsets or []), (_("Learner"), {"fields": ["is_guest"]})]
