from allauth.account.views import email, password_set
from django.urls import include, path

from accounts import views
from accounts.guests import GuestLoginView, GuestSignupView, members_only

urlpatterns = [
    path("account", views.account, name="account"),
    path("account/csrf", views.csrf_token, name="csrf_token"),
    path("account/tokens", views.token_create, name="token_create"),
    path("account/tokens/<slug:pk>/revoke", views.token_revoke, name="token_revoke"),
    path("accounts/signup/", GuestSignupView.as_view(), name="account_signup"),
    path("accounts/login/", GuestLoginView.as_view(), name="account_login"),
    path("accounts/email/", members_only(email), name="account_email"),
    path("accounts/password/set/", members_only(password_set), name="account_set_password"),
    path("accounts/", include("allauth.account.urls")),
]
