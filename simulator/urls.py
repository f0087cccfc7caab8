from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.utils.functional import lazy
from django.views.generic import RedirectView
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from web import problems

PUBLIC = {"permission_classes": [], "authentication_classes": [], "http_method_names": ["get", "head"]}

urlpatterns = [
    path("", include("tasks.urls")),
    path("", include("professions.urls")),
    path("", include("generation.urls")),
    path("", include("accounts.urls")),
    path("admin/api/<path:address>", problems.nothing_here),  # else the admin leads to its log-in
    path("admin/", admin.site.urls),
    path("api/schema", SpectacularAPIView.as_view(**PUBLIC), name="schema"),
    path("api/docs", SpectacularSwaggerSplitView.as_view(**PUBLIC, url_name="schema"), name="docs"),
    # What browsers ask for where a page names none, as the admin's do; the hashed name is known when it is asked.
    path(
        "favicon.ico",
        RedirectView.as_view(url=lazy(static, str)("web/img/favicon.svg"), http_method_names=["get", "head"]),
    ),
    path("language", set_language, name="set_language"),
]

handler400 = "web.problems.bad_request"
handler403 = "web.problems.forbidden"
handler404 = "web.problems.not_found"
handler500 = "web.problems.server_error"

admin.site.site_header = admin.site.site_title = "Profession simulator"
admin.site.index_title = ""
admin.site.site_url = "/"
