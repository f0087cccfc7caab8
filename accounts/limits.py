"""Limits on how often something may happen, counted in the database: by a person, an account or a client's network."""

import ipaddress
import math
from dataclasses import dataclass
from datetime import timedelta

from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.models import RateCount

# Whoever has one IPv6 address has the whole network of this size.
IPV6_NETWORK_BITS = 64


@dataclass(frozen=True, slots=True)
class Limit:
    """So many at once, and another one after each `refill`; a `burst` of 0 is no limit."""

    name: str
    burst: int
    refill: timedelta

    @classmethod
    def per_hour(cls, name: str, count: int) -> "Limit":
        """Return a limit of so many at once, refilled evenly within an hour."""
        return cls(name, count, timedelta(hours=1) / max(count, 1))

    def take(self, who: str) -> bool:
        """Count one more for somebody, or return False when there is no room.

        Inside a transaction that is rolled back nothing is counted.
        """
        return not self.burst or RateCount.objects.take(self._key(who), burst=self.burst, refill=self.refill)

    def seconds_to_wait(self, who: str) -> int:
        """Return the seconds until there is room for one more; 0 when there is."""
        row = RateCount.objects.filter(key=self._key(who)).first()
        if row is None or not self.burst:
            return 0
        return max(0, math.ceil((row.free_at - (self.burst - 1) * self.refill - timezone.now()).total_seconds()))

    def clear(self, who: str) -> None:
        """Forget what was counted for somebody."""
        RateCount.objects.filter(key=self._key(who)).delete()

    def _key(self, who: str) -> str:
        # Nobody is to read addresses, or what people type for a name, in this table.
        return salted_hmac("accounts.limits", f"{self.name}:{who}", algorithm="sha256").hexdigest()


def client_network(request: HttpRequest) -> str:
    """Return what a client's address is counted by: an IPv4 address, or the network of an IPv6 address."""
    text = request.META.get("REMOTE_ADDR", "")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return str(text)  # a Unix socket has none
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), IPV6_NETWORK_BITS), strict=False))
