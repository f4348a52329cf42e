"""Every section that the code cites stands in the documents under docs/."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = {"METHOD": "method.md", "CLAIMS": "claims.md", "DATA": "data.md"}
CITED = re.compile(r"\b(METHOD|CLAIMS|DATA) (\d+(?:\.\d+)*(?:, \d+(?:\.\d+)*)*)")


def headings(document: str) -> list[str]:
    text = (ROOT / "docs" / document).read_text()
    return re.findall(r"^#{2,} (\d+(?:\.\d+)*) ", text, re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS.values())
def test_sections_are_numbered_once(document: str) -> None:
    assert len(set(headings(document))) == len(headings(document)) > 0


@pytest.mark.parametrize("package", ["models", "storage", "tasks", "flows", "tests", "docs"])
def test_cited_sections_exist(package: str) -> None:
    known = {name: set(headings(document)) for name, document in DOCUMENTS.items()}
    missing = [
        f"{path.relative_to(ROOT)}: {name} {number}"
        for path in sorted([*(ROOT / package).rglob("*.py"), *(ROOT / package).glob("*.md")])
        for name, numbers in CITED.findall(path.read_text())
        for number in numbers.split(", ")
        if number not in known[name]
    ]
    assert missing == []
