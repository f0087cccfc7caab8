"""Serializer fields that take from JSON what the OpenAPI schema says, and convert nothing.

DRF's own take `5` for "5", `true` for "True" and "5" for 5, so that a mistake is stored instead of told.
"""

from typing import Any

from rest_framework import serializers

# What a primary key can be; SQLite fails on a larger number instead of finding nothing.
LARGEST_ID = 2**63 - 1


class StrictCharField(serializers.CharField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictChoiceField(serializers.ChoiceField):
    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid_choice", input=type(data).__name__)
        return super().to_internal_value(data)


class StrictIntegerField(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        # 5.0 is a whole number in JSON.
        if type(data) is not int and not (isinstance(data, float) and data.is_integer()):
            self.fail("invalid")
        return super().to_internal_value(int(data))


class IdField(StrictIntegerField):
    """The primary key of something."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=LARGEST_ID, **kwargs)
