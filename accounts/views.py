"""The learner's account page."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from knox.models import AuthToken

from accounts.current import signed_in
from accounts.tokens import create_token


@never_cache
@require_safe
def csrf_token(request: HttpRequest) -> JsonResponse:
    """Return a token for the forms of a page that stands open while its person logs in or signs up in another tab.

    Pages of other origins can send this request and cannot read the answer.
    """
    return JsonResponse({"token": get_token(request)})


@never_cache
@login_required
def account(request: HttpRequest, *, new_token: str = "") -> HttpResponse:
    tokens = AuthToken.objects.filter(user=request.user).order_by("-created")
    return render(request, "accounts/account.html", {"tokens": tokens, "new_token": new_token})


@never_cache
@login_required
@require_POST
def token_create(request: HttpRequest) -> HttpResponse:
    # Shown in the answer to this request and nowhere else, so there is nothing to redirect to.
    return account(request, new_token=create_token(signed_in(request)))


@login_required
@require_POST
def token_revoke(request: HttpRequest, pk: str) -> HttpResponse:
    get_object_or_404(AuthToken, user=request.user, pk=pk).delete()
    messages.success(request, _("The token is revoked."))
    return redirect("account")
