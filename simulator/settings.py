"""Every setting of the site, read from the environment once.

The names, meanings and defaults are in README.md. A value that cannot be used stops the start with a sentence that
says what to write instead; two values that contradict each other are system checks (simulator/checks.py).
"""

import os
import re
import secrets
from pathlib import Path
from typing import Any

import django_stubs_ext
import environ
from corsheaders.defaults import default_headers
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

django_stubs_ext.monkeypatch()  # lets classes such as ModelAdmin say which model they are for

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
env.read_env(BASE_DIR / ".env")

VAR_DIR = Path(env.str("VAR_DIR", default="") or BASE_DIR / "var")


def _public_address(value: str) -> tuple[str, str, str]:
    """Split `SITE_URL` into scheme, host and origin (`scheme://host[:port]`)."""
    address = re.fullmatch(r"(https?)://(\[[0-9a-f:]+\]|[\w.-]+)(:\d+)?", value, re.IGNORECASE)
    if address is None:
        raise ImproperlyConfigured(
            f"SITE_URL is {value!r}; write the public address with its scheme and without a path, "
            "such as https://try.example.org"
        )
    return address[1].lower(), address[2].lower(), value.lower()


def _kept_secret_key(path: Path) -> str:
    """Read the key kept in `path`, made on the first start and readable by the owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(64))
    return path.read_text(encoding="ascii").strip()


def _seconds(name: str, default: float, *, zero_is: str = "") -> float:
    """Read a number of seconds; 0 only where it means something, which `zero_is` says."""
    value: str = env.str(name, default="") or str(default)
    # Not environ's own parser, which takes 2m for 2 and 1e3 for 13.
    seconds = float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else -1.0
    if seconds < 0 or (seconds == 0 and not zero_is):
        what = f"a number of seconds, or 0 for {zero_is}" if zero_is else "a number of seconds above 0"
        raise ImproperlyConfigured(f"{name} is {value!r}; write {what}")
    return seconds


def _whole_number(name: str, default: int, *, least: int) -> int:
    value: str = env.str(name, default="") or str(default)
    if not re.fullmatch(r"\d+", value) or int(value) < least:
        raise ImproperlyConfigured(f"{name} is {value!r}; write a whole number, {least} or more")
    return int(value)


def _names(name: str, default: str = "") -> list[str]:
    """Read a list whose parts are separated by commas."""
    value: str = env.str(name, default="") or default
    return [part.strip() for part in value.split(",") if part.strip()]


def _switch(name: str, *, default: bool) -> bool:
    value: str = env.str(name, default="") or str(default)
    if value.lower() not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise ImproperlyConfigured(f"{name} is {value!r}; write on or off")
    return value.lower() in {"1", "true", "yes", "on"}


def _database(url: str) -> dict[str, Any]:
    if url.partition("://")[0] not in {"sqlite", "postgres", "postgresql"}:
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be used; write sqlite:///PATH or postgres://USER:PASSWORD@HOST/NAME"
        )
    settings: dict[str, Any] = env.db_url_config(url)
    return settings


# Where the site is
SITE_URL: str = env.str("SITE_URL", default="http://127.0.0.1:8000").rstrip("/")
_scheme, _host, _origin = _public_address(SITE_URL)
_https = _scheme == "https"
_local = {"127.0.0.1", "localhost", "[::1]"}

DEBUG = _switch("DEBUG", default=False)
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=[]) or sorted(_local if _host in _local else {_host})
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[]) or [_origin]

# Database and shared services
DATABASES = {"default": _database(env.str("DATABASE_URL", default="") or f"sqlite:///{VAR_DIR / 'db.sqlite3'}")}
REDIS_URL: str = env.str("REDIS_URL", default="")
WORKERS: int = env.int("WEB_CONCURRENCY", default=1)
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    Path(DATABASES["default"]["NAME"]).parent.mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = {
        # A transaction takes the write lock when it begins: one that starts by reading and is upgraded later
        # fails with "database is locked" at once, whatever the time-out.
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL",
        "timeout": 30,
    }
    DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # A pool for each process: requests wait for a connection instead of opening one each.
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 8, "timeout": 30}}
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
if REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "simulator.cache.CacheThatMayBeGone",
            "LOCATION": REDIS_URL,
            "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Secrets
SECRET_KEY: str = env.str("SECRET_KEY", default="")
if not SECRET_KEY:
    if REDIS_URL or DATABASES["default"]["ENGINE"] != "django.db.backends.sqlite3":
        raise ImproperlyConfigured(
            "SECRET_KEY is not set, and with PostgreSQL or Redis several processes have to share it; "
            "write one of 50 characters or more into the environment"
        )
    SECRET_KEY = _kept_secret_key(VAR_DIR / "secret_key")
if len(SECRET_KEY) < 50:
    raise ImproperlyConfigured(
        f"SECRET_KEY has {len(SECRET_KEY)} characters; 50 or more are needed. "
        "`python -c 'import secrets; print(secrets.token_urlsafe(64))'` makes one"
    )

# The language model
OPENAI_API_KEYS = _names("OPENAI_API_KEYS") or _names("OPENAI_API_KEY")
OPENAI_BASE_URL: str = env.str("OPENAI_BASE_URL", default="") or "https://api.openai.com/v1"
OPENAI_MODEL: str = env.str("OPENAI_MODEL", default="").strip() or "gpt-4o-mini"
OPENAI_FALLBACK_MODELS = _names("OPENAI_FALLBACK_MODELS", "gpt-4.1-mini-2025-04-14,gpt-4.1-2025-04-14")
OPENROUTER_API_KEY: str = env.str("OPENROUTER_API_KEY", default="").strip()
OPENROUTER_BASE_URL: str = env.str("OPENROUTER_BASE_URL", default="") or "https://openrouter.ai/api/v1"
OPENROUTER_MODEL: str = env.str("OPENROUTER_MODEL", default="").strip()
VARIANT_MODELS = _names("VARIANT_MODELS", "gpt-4o-mini,gpt-4.1-mini-2025-04-14,gpt-4.1-2025-04-14,gpt-4o-mini")
LLM_TIMEOUT_SECONDS = _seconds("LLM_TIMEOUT_SECONDS", 120)
LLM_FIRST_TOKEN_SECONDS = _seconds("LLM_FIRST_TOKEN_SECONDS", 20)
LLM_IDLE_SECONDS = _seconds("LLM_IDLE_SECONDS", 30)
LLM_MAX_RETRIES = _whole_number("LLM_MAX_RETRIES", 6, least=1)
LLM_HEDGE_SECONDS = _seconds("LLM_HEDGE_SECONDS", 0, zero_is="no second candidate")
DAILY_TOKEN_BUDGET = _whole_number("DAILY_TOKEN_BUDGET", 0, least=0)
USER_DAILY_TOKEN_BUDGET = _whole_number("USER_DAILY_TOKEN_BUDGET", 200_000, least=0)

# Who may do what
ALLOW_GUESTS = _switch("ALLOW_GUESTS", default=True)
REQUIRE_STAFF_MFA = _switch("REQUIRE_STAFF_MFA", default=False)
CORS_ALLOWED_ORIGINS: list[str] = [origin.strip() for origin in env.list("CORS_ORIGINS", default=[]) if origin.strip()]
CORS_ALLOW_HEADERS = [*default_headers, "last-event-id"]
CORS_EXPOSE_HEADERS = ["Retry-After"]
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_CREDENTIALS = True
ANSWER_MAX_CHARACTERS = 20_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

INSTALLED_APPS = [
    "tasks",
    "professions",
    "generation",
    "accounts",
    "simulator",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "knox",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "csp",
    "simulator.apps.StaffAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "simulator.middleware.Policy",
    "simulator.static_files.StaticFilesMiddleware",
    "simulator.middleware.not_stored_by_default",
    "corsheaders.middleware.CorsMiddleware",
    "simulator.middleware.Session",
    "simulator.middleware.Language",
    "simulator.middleware.Common",
    "django.middleware.csrf.CsrfViewMiddleware",
    "simulator.middleware.Person",
    "accounts.tokens.bearer_token_middleware",
    "accounts.second_factor.staff_api_middleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]

ROOT_URLCONF = "simulator.urls"
ASGI_APPLICATION = "simulator.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "simulator.context.site",
            ],
        },
    },
]

# People
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "simulations"
LOGOUT_REDIRECT_URL = "catalogue"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {"change_password": "accounts.adapter.CountedChangePasswordForm"}
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_AUTHENTICATED_LOGIN_REDIRECTS = False  # a guest is logged in and may sign up; accounts/guests.py
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
# A class of thirty sits behind one address: what is counted there must leave room for all of them at once.
# Wrong passwords and codes are counted by account, in the database (accounts/attempts.py).
ACCOUNT_RATE_LIMITS = {
    "signup": "120/m/ip",
    "login": "300/m/ip",
    "login_failed": None,
    "change_password": None,
    "reauthenticate": None,
    "reset_password": "60/m/ip",
    "reset_password_from_key": "60/m/ip",
}
MFA_ADAPTER = "accounts.second_factor.Adapter"
MFA_FORMS = {
    "authenticate": "accounts.second_factor.CountedAuthenticateForm",
    "reauthenticate": "accounts.second_factor.CountedReauthenticateForm",
    "activate_totp": "accounts.second_factor.UsedOnceActivateForm",
}
MFA_TOTP_ISSUER = f"Profession simulator ({_host})"
MFA_TOTP_TOLERANCE = 1  # half a minute: telephones' clocks differ
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_ALLOW_UNVERIFIED_EMAIL = True  # no address here is ever verified
# Without EMAIL_URL no mail is sent, and none is written to the log, where a link to a new password would lie open.
SENDS_MAIL = bool(env.str("EMAIL_URL", default=""))
vars().update(env.email_url("EMAIL_URL") if SENDS_MAIL else env.email_url_config("dummymail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = f"Profession simulator <noreply@{_host}>"

REST_KNOX = {
    "AUTH_HEADER_PREFIX": "Bearer",
    "TOKEN_TTL": None,  # each token gets its own expiry when it is made (accounts/tokens.py)
    "SECURE_HASH_ALGORITHM": "hashlib.sha512",
}

# API
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.tokens.SessionOrToken"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["simulator.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "simulator.problems.as_response",
    "UNICODE_JSON": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Profession simulator",
    "DESCRIPTION": "Try on a profession: tasks and reports, whole or streamed as Server-Sent Events.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "simulator.schema.add_streams"],
    "ENUM_NAME_OVERRIDES": {"GenerationStatusEnum": "generation.models.Generation.Status"},
}

# Languages
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# Static files
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "simulator.static_files.HashedModulesStorage"
    },
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = False

# Transport and browser security
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # the cookie's name has no setting
CSRF_FAILURE_VIEW = "simulator.problems.csrf_failure"
if _https:
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = True
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
    LANGUAGE_COOKIE_NAME = "__Host-language"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],  # Bootstrap and the admin draw their icons from data: addresses
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "simulator.logs.LogLine", "format": "%(asctime)s %(levelname)s %(name)s %(message)s"}
    },
    "filters": {"no_texts": {"()": "simulator.logs.NoTexts"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["no_texts"]}},
    "root": {"handlers": ["stderr"], "level": "DEBUG" if DEBUG else "INFO"},
    "loggers": {
        # uvicorn's own handlers would print each line a second time
        "uvicorn": {"handlers": [], "propagate": True},
        "uvicorn.access": {"handlers": [], "propagate": True, "level": "INFO"},
        # Django's own handlers write lines of their own form, and mail them unredacted
        "django": {"handlers": [], "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
    },
}
