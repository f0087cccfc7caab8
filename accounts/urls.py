from django.urls import include, path

from accounts import views
from accounts.guests import GuestLoginView, GuestSignupView

urlpatterns = [
    path("account", views.account, name="account"),
    path("account/tokens", views.token_create, name="token_create"),
    path("account/tokens/<str:pk>/revoke", views.token_revoke, name="token_revoke"),
    path("accounts/signup/", GuestSignupView.as_view(), name="account_signup"),
    path("accounts/login/", GuestLoginView.as_view(), name="account_login"),
    path("accounts/", include("allauth.account.urls")),
]
