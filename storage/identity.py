"""Short digests of what decides a result; they are part of the names that results are kept by."""

import hashlib
import json
from typing import Any


def short_digest(*decides: Any) -> str:
    """First 12 hexadecimal digits of the sha256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
