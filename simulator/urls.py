from django.contrib import admin
from django.urls import include, path
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from simulator import problems

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
    path("language", set_language, name="set_language"),
]

handler400 = "simulator.problems.bad_request"
handler403 = "simulator.problems.forbidden"
handler404 = "simulator.problems.not_found"
handler500 = "simulator.problems.server_error"

admin.site.site_header = admin.site.site_title = "Profession simulator"
admin.site.index_title = ""
admin.site.site_url = "/"
