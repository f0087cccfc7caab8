"""What the reasons mean that providers give for the end of a text."""

from enum import Enum

LENGTH = "length"

_WHOLE = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "end", "complete", "completed", "done", "finished"}
_CUT = {"length", "max_tokens", "model_length", "max_output_tokens", "max_length"}
_FILTERED = {
    "content_filter",
    "sensitive",
    "safety",
    "recitation",
    "prohibited_content",
    "blocklist",
    "spii",
    "refusal",
}
_BROKEN = {
    *("error", "abort", "aborted", "cancel", "cancelled", "canceled", "failed", "failure", "timeout", "unknown_error"),
    *("network_error", "insufficient_system_resource", "malformed_response", "malformed_function_call", "overloaded"),
    *("internal_error", "server_error", "tool_calls", "function_call"),
}


class Meaning(Enum):
    WHOLE = "the text is whole"
    CUT = "the text was cut at the limit of its length"
    FILTERED = "the provider would not write it"
    BROKEN = "something went wrong"


def meaning(reason: str, *, native: str = "") -> Meaning:
    """Return what a reason means, WHOLE for one that is not known.

    Args:
        native: the reason of the provider behind a gateway, empty where there is none.
    """
    for said in (reason, native):
        if said.lower() in _BROKEN:
            return Meaning.BROKEN
        if said.lower() in _FILTERED:
            return Meaning.FILTERED
    return Meaning.CUT if reason.lower() in _CUT or native.lower() in _CUT else Meaning.WHOLE


def is_known(reason: str) -> bool:
    return reason.lower() in _WHOLE | _CUT | _FILTERED | _BROKEN
