"""How a form shows one field; apart from the fields, as what workers import declares some too."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import Field


def shown(title: str, about: str, examples: Sequence[Any] | None = None, choices: Sequence[str] | None = None) -> Any:
    """How a form shows a field; Prefect puts a title and description of its own where the schema has none."""
    if examples:
        about = f"{about} E.g. {', '.join(f'`{json.dumps(example)}`' for example in examples)}."
    extra: dict[str, Any] = {"title": title, "description": about} | ({"enum": list(choices)} if choices else {})
    return Field(examples=list(examples) if examples else None, json_schema_extra=extra)
