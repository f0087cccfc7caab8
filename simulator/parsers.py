from typing import IO, Any

from rest_framework.parsers import JSONParser

from simulator.problems import parse_json


class StrictJSONParser(JSONParser):
    """Reads what the streams read, refuses what they refuse."""

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:
        return parse_json(stream.read())
