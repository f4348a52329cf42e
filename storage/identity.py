"""Short digests of everything that determines a result; they are part of the results' names."""

import hashlib
import json
from typing import Any


def short_digest(*decides: Any) -> str:
    """First 12 hexadecimal digits of the sha256 of JSON values."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
