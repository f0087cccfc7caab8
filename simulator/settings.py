"""Every setting of the site, read from the environment once.

The names, meanings and defaults are in README.md. A value that cannot be used stops the start with a sentence that
says what to write instead; two values that contradict each other are system checks (simulator/checks.py).
"""

from pathlib import Path
from urllib.parse import urlsplit

import django_stubs_ext
from corsheaders.defaults import default_headers
from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _

from simulator import var_folder
from simulator.environment import Environment, host_of

django_stubs_ext.monkeypatch()  # lets classes such as ModelAdmin say which model they are for

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment.load(BASE_DIR / ".env")

VAR_DIR = env.path("VAR_DIR", BASE_DIR / "var", base=BASE_DIR)

# Where the site is
SITE_URL = env.site_url("SITE_URL", "http://127.0.0.1:8000")
_scheme, _host = urlsplit(SITE_URL).scheme, host_of(SITE_URL)
_https = _scheme == "https"

DEBUG = env.switch("DEBUG", default=False)
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS") or [_host]
if not _https:  # whoever sits at the computer itself; an https site is reached through its proxy
    ALLOWED_HOSTS = sorted({*ALLOWED_HOSTS, "127.0.0.1", "localhost", "[::1]"})
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS", subdomains=True) or [SITE_URL]
TRUSTED_PROXIES = env.proxies("TRUSTED_PROXIES", "127.0.0.1,::1,unix")

# Database and shared services
DATABASES = {"default": env.database("DATABASE_URL", VAR_DIR / "db.sqlite3", base=BASE_DIR)}
REDIS_URL = env.redis_url("REDIS_URL")
WORKERS = env.whole_number("WEB_CONCURRENCY", 1, least=1, most=256)
# What the URL says holds: its options come last.
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # A transaction takes the write lock when it begins: one that starts by reading and is upgraded later
        # fails with "database is locked" at once, whatever the time-out.
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL",
        "timeout": 30,
    } | DATABASES["default"]["OPTIONS"]
    DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}
else:
    DATABASES["default"]["OPTIONS"] = {
        # A pool for each process: requests wait for a connection instead of opening one each.
        # Who waits longer would be told less: while all connections are busy they are so for milliseconds.
        "pool": {"min_size": 1, "max_size": 8, "timeout": 4},
        "connect_timeout": 3,
        # A server that vanished without a word is noticed after about ten seconds of silence.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "tcp_user_timeout": 10_000,
    } | DATABASES["default"]["OPTIONS"]
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
if REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "web.cache.CacheThatMayBeGone",
            "LOCATION": REDIS_URL,
            "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Secrets; without one, a key is made below
SECRET_KEY = env.secret_key("SECRET_KEY")

# The language model
OPENAI_API_KEYS = env.keys("OPENAI_API_KEYS") or env.keys("OPENAI_API_KEY")
_openai_itself = "https://api.openai.com/v1"
OPENAI_BASE_URL = env.service_url("OPENAI_BASE_URL", _openai_itself)
_is_openai = OPENAI_BASE_URL.startswith("https://api.openai.com/")
if not OPENAI_API_KEYS and not _is_openai:  # a server of one's own, which may ask for none
    OPENAI_API_KEYS = ["no-key-needed"]
OPENAI_MODEL = env.model("OPENAI_MODEL", "gpt-4o-mini")
# No other server has OpenAI's models.
OPENAI_FALLBACK_MODELS = env.models(
    "OPENAI_FALLBACK_MODELS", "gpt-4.1-mini-2025-04-14,gpt-4.1-2025-04-14" if _is_openai else ""
)
OPENROUTER_API_KEY = env.key("OPENROUTER_API_KEY")
OPENROUTER_BASE_URL = env.service_url("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1")
OPENROUTER_MODEL = env.model("OPENROUTER_MODEL", "")
VARIANT_MODELS = env.models(
    "VARIANT_MODELS",
    "gpt-4o-mini,gpt-4.1-mini-2025-04-14,gpt-4.1-2025-04-14,gpt-4o-mini" if _is_openai else OPENAI_MODEL,
)
LLM_TIMEOUT_SECONDS = env.seconds("LLM_TIMEOUT_SECONDS", 120)
LLM_FIRST_TOKEN_SECONDS = env.seconds("LLM_FIRST_TOKEN_SECONDS", 20)
LLM_IDLE_SECONDS = env.seconds("LLM_IDLE_SECONDS", 30)
LLM_MAX_RETRIES = env.whole_number("LLM_MAX_RETRIES", 6, least=1)
LLM_MAX_TOKENS = env.whole_number("LLM_MAX_TOKENS", 1500, least=1, most=1_000_000)
LLM_TEMPERATURE = env.temperature("LLM_TEMPERATURE", 0.7)
DEBRIEF_WAIT_SECONDS = env.seconds("DEBRIEF_WAIT_SECONDS", 8, zero_is="no waiting for marks")
LLM_HEDGE_SECONDS = env.seconds("LLM_HEDGE_SECONDS", 0, zero_is="no second candidate")
DAILY_TOKEN_BUDGET = env.whole_number("DAILY_TOKEN_BUDGET", 0, least=0)
USER_DAILY_TOKEN_BUDGET = env.whole_number("USER_DAILY_TOKEN_BUDGET", 200_000, least=0)
GUEST_DAILY_TOKEN_BUDGET = env.whole_number("GUEST_DAILY_TOKEN_BUDGET", 500_000, least=0)

# Who may do what
ALLOW_GUESTS = env.switch("ALLOW_GUESTS", default=True)
# A class of forty joins at once and some of it comes back in another browser; then one a minute.
GUESTS_PER_ADDRESS_AND_HOUR = env.whole_number("GUESTS_PER_ADDRESS_AND_HOUR", 60, least=0)
FRESH_STARTS_PER_HOUR = env.whole_number("FRESH_STARTS_PER_HOUR", 10, least=0)
REQUIRE_STAFF_MFA = env.switch("REQUIRE_STAFF_MFA", default=False)
CORS_ALLOWED_ORIGINS = env.origins("CORS_ORIGINS")
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
    "web",
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
    "web.health.answer_supervisors",
    "web.hosts.known_methods_only",
    "web.static_files.StaticFilesMiddleware",
    "web.hosts.own_host_only",
    "django.middleware.security.SecurityMiddleware",
    "web.middleware.Policy",
    "web.middleware.not_stored_by_default",
    "corsheaders.middleware.CorsMiddleware",
    "web.middleware.Session",
    "accounts.sessions.renewal_middleware",
    "web.middleware.Language",
    "web.zones.in_the_readers_zone",
    "web.middleware.Common",
    "django.middleware.csrf.CsrfViewMiddleware",
    "web.bodies.refuse_large_bodies",
    "web.middleware.Person",
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
    {"NAME": "accounts.passwords.EndTokens"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "simulations"
LOGOUT_REDIRECT_URL = "catalogue"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "change_password": "accounts.adapter.CountedChangePasswordForm",
    "signup": "accounts.adapter.FirstPasswordForm",
}
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_AUTHENTICATED_LOGIN_REDIRECTS = False  # a guest is logged in and may sign up; accounts/guests.py
ACCOUNT_EMAIL_VERIFICATION = "none"
# A link to a new password goes to an address: whoever finds a computer logged in must not add one of their own.
ACCOUNT_REAUTHENTICATION_REQUIRED = True
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
SENDS_MAIL = bool(env.text("EMAIL_URL"))
vars().update(env.email("EMAIL_URL", "dummymail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = f"Profession simulator <noreply@{_host}>"

REST_KNOX = {
    "AUTH_HEADER_PREFIX": "Bearer",
    "TOKEN_TTL": None,  # each token gets its own expiry when it is made (accounts/tokens.py)
    "SECURE_HASH_ALGORITHM": "hashlib.sha512",
}

# API
# What texts are for (generation/kinds.py), by the name that is stored with each.
GENERATION_KINDS = {
    "task": "tasks.kinds.TaskKind",
    "assessment": "tasks.kinds.AssessmentKind",
    "report": "tasks.kinds.ReportKind",
    "variant": "professions.kinds.VariantKind",
    "verify": "generation.check_text.CheckKind",
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.tokens.SessionOrToken"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],  # for the schema; json_body reads the bodies
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "web.negotiation.AlwaysAnswer",
    "DEFAULT_METADATA_CLASS": "web.negotiation.NoMetadata",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "web.problems.as_response",
    "UNICODE_JSON": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Profession simulator",
    "DESCRIPTION": "Try on a profession: tasks and reports, whole or streamed as Server-Sent Events.",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",  # the first that can describe what is inside an event
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "simulator.schema.complete"],
    "ENUM_NAME_OVERRIDES": {
        "GenerationStatusEnum": "generation.models.Generation.Status",
        "SourceEnum": "generation.models.Generation.Source",
        "AuthoredBecauseEnum": "generation.models.Generation.AuthoredBecause",
    },
}

# Languages
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# What a page or a mail about an error may show
DEFAULT_EXCEPTION_REPORTER = "web.hiding.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "web.hiding.Filter"

# Static files
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "web.static_files.HashedModulesStorage"
    },
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = False

# Transport and browser security
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # the cookie's name has no setting
CSRF_FAILURE_VIEW = "web.problems.csrf_failure"
_hsts_subdomains = env.switch("HSTS_INCLUDE_SUBDOMAINS", default=False)
_hsts_preload = env.switch("HSTS_PRELOAD", default=False)
if _https:
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = _hsts_subdomains
    SECURE_HSTS_PRELOAD = _hsts_preload
    # Both speak for other sites of the same domain, and browsers remember them for a year: the operator's choice.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
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
    "formatters": {"line": {"()": "web.logs.LogLine", "format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {
        "no_texts": {"()": "web.logs.NoTexts"},
        "database_trouble": {"()": "web.logs.DatabaseTroubleInALine"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["no_texts", "database_trouble"],
        }
    },
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

# Nothing is made before every setting can be used.
MISSPELLED_NAMES = env.misspelled()
if not SECRET_KEY and (REDIS_URL or DATABASES["default"]["ENGINE"] != "django.db.backends.sqlite3"):
    env.faults.append(
        "SECRET_KEY is not set, and with PostgreSQL or Redis several processes have to share it; "
        "write one of 50 characters or more into the environment"
    )
env.raise_faults()
var_folder.make(VAR_DIR)
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    var_folder.check_database(Path(DATABASES["default"]["NAME"]))
SECRET_KEY = SECRET_KEY or var_folder.keep_secret_key(VAR_DIR)
