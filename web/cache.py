from typing import Any

from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError


class CacheThatMayBeGone(RedisCache):
    """Redis as a cache: while it is down nothing is kept, and nobody is kept out for it.

    What must hold then too is counted in the database (accounts/limits.py).
    """

    def add(self, *args: Any, **options: Any) -> bool:
        try:
            return super().add(*args, **options)
        except RedisError:
            return True

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        try:
            return super().get(key, default, version)
        except RedisError:
            return default

    def set(self, *args: Any, **options: Any) -> None:
        try:
            super().set(*args, **options)
        except RedisError:
            return

    def delete(self, *args: Any, **options: Any) -> bool:
        try:
            return super().delete(*args, **options)
        except RedisError:
            return False
