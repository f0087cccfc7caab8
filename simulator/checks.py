"""System checks: settings that contradict each other, and what this site relies on in other packages."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning

from generation.kinds import load_kind


@register()
def streams_can_give_threads_back(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """generation.sse.release_request_resources takes executors out of a table of asgiref's."""
    import asyncio

    async def executor_is_in_the_table() -> bool:
        async with ThreadSensitiveContext():
            await sync_to_async(int)()
            context = SyncToAsync.thread_sensitive_context.get()
            return isinstance(SyncToAsync.context_to_thread_executor.get(context), ThreadPoolExecutor)

    if asyncio.run(executor_is_in_the_table()):
        return []
    return [
        Error(
            "asgiref keeps a request's thread elsewhere than this site expects, so each open stream would hold one.",
            hint="Install the asgiref version of requirements.txt, or mend generation/sse.py.",
            id="simulator.E001",
        )
    ]


@register()
def kinds_of_generations_are_there(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for name, path in settings.GENERATION_KINDS.items():
        try:
            load_kind(path)
        except (ImportError, TypeError) as error:
            hint = "Name a subclass of generation.kinds.Kind, or take the entry away."
            found.append(Error(f"GENERATION_KINDS: {name}: {error}.", hint=hint, id="simulator.E011"))
    return found


@register()
def the_second_provider_has_a_model(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    if not settings.OPENROUTER_API_KEY or settings.OPENROUTER_MODEL:
        return []
    return [
        Error(
            "OPENROUTER_API_KEY is set without OPENROUTER_MODEL, so nobody could be asked there.",
            hint="Name a model, such as OPENROUTER_MODEL=openai/gpt-4o-mini, or take the key away.",
            id="simulator.E003",
        )
    ]


@register()
def preloading_covers_subdomains(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    if not settings.SECURE_HSTS_PRELOAD or settings.SECURE_HSTS_INCLUDE_SUBDOMAINS:
        return []
    return [
        Error(
            "HSTS_PRELOAD is on without HSTS_INCLUDE_SUBDOMAINS, and browsers' lists take no site without subdomains.",
            hint="Turn on HSTS_INCLUDE_SUBDOMAINS if every subdomain speaks https, else turn HSTS_PRELOAD off.",
            id="simulator.E010",
        )
    ]


@register()
def many_processes_share_a_log(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    if settings.WORKERS <= 1 or settings.REDIS_URL:
        return []
    return [
        Error(
            f"{settings.WORKERS} processes are to serve without REDIS_URL: a learner whose stream comes to another "
            "process than the one that writes would see no text grow, and each would take the others for dead.",
            hint="Set REDIS_URL, or serve with one process (--workers 1, WEB_CONCURRENCY unset).",
            id="simulator.E002",
        )
    ]


@register()
def names_are_known(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    return [
        CheckWarning(
            f"{name} is not a setting of this site and changes nothing.", hint=f"{meant} is.", id="simulator.W001"
        )
        for name, meant in settings.MISSPELLED_NAMES.items()
    ]


@register()
def hosts_are_named(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [
        CheckWarning(
            "ALLOWED_HOSTS is *, so a stranger chooses the address that links in mails name.",
            hint="Name the hosts, such as ALLOWED_HOSTS=try.example.org,192.168.1.20.",
            id="simulator.W002",
        )
    ]
