"""Names become files: on this machine, in the hub's cache, or from the hub, because somebody asked."""

from eardrop.hub.beside import find_projector, find_text
from eardrop.hub.cache import Cached, Files, cached, every, remove
from eardrop.hub.download import Plan, ask, fetch, take
from eardrop.hub.names import KNOWN, HubName, parse, require_name
from eardrop.hub.resolve import (
    DEMONSTRATION,
    is_bundled,
    locate,
    not_fetched,
    standing,
    use,
    use_none,
)

__all__ = [
    "DEMONSTRATION",
    "KNOWN",
    "Cached",
    "Files",
    "HubName",
    "Plan",
    "ask",
    "cached",
    "every",
    "fetch",
    "find_projector",
    "find_text",
    "is_bundled",
    "locate",
    "not_fetched",
    "parse",
    "remove",
    "require_name",
    "standing",
    "take",
    "use",
    "use_none",
]
