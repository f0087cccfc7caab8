from allauth.account.views import email, password_set
from allauth.mfa.base.views import index as second_factor
from allauth.mfa.recovery_codes.views import generate_recovery_codes, view_recovery_codes
from allauth.mfa.totp.views import activate_totp, deactivate_totp
from django.urls import include, path

from accounts import views
from accounts.guests import GuestLoginView, GuestSignupView, members_only
from accounts.second_factor import shown_first

urlpatterns = [
    path("account", views.account, name="account"),
    path("account/csrf", views.csrf_token, name="csrf_token"),
    path("account/timezone", views.choose_timezone, name="choose_timezone"),
    path("account/tokens", views.token_create, name="token_create"),
    path("account/tokens/<slug:pk>/revoke", views.token_revoke, name="token_revoke"),
    path("accounts/signup/", GuestSignupView.as_view(), name="account_signup"),
    path("accounts/login/", GuestLoginView.as_view(), name="account_login"),
    path("accounts/password/reset/", views.ResetView.as_view(), name="account_reset_password"),
    path("accounts/email/", members_only(email), name="account_email"),
    path("accounts/password/set/", members_only(password_set), name="account_set_password"),
    path("accounts/", include("allauth.account.urls")),
    path("accounts/2fa/", members_only(second_factor), name="mfa_index"),
    path("accounts/2fa/authenticate/", views.authenticate, name="mfa_authenticate"),
    path("accounts/2fa/totp/activate/", members_only(activate_totp), name="mfa_activate_totp"),
    path("accounts/2fa/totp/deactivate/", shown_first(deactivate_totp), name="mfa_deactivate_totp"),
    path("accounts/2fa/recovery-codes/", shown_first(view_recovery_codes), name="mfa_view_recovery_codes"),
    path(
        "accounts/2fa/recovery-codes/generate/",
        shown_first(generate_recovery_codes),
        name="mfa_generate_recovery_codes",
    ),
    path("accounts/2fa/", include("allauth.mfa.urls")),
]
