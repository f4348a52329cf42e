"""Builds the documentation site: `python -m docs.site.build FOLDER` collects and generates pages, and runs zensical.

The Markdown files of the repository link one another as files, so that they can be read without the site. They are
copied into one folder, with links adjusted to the copies; a link to a source file leads to a copy of that file. The
reference is generated from the declarations in the code at each build, and is not part of the repository.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

from docs.site.reference import generated_pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RENAMED = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "deploy": "deploy.md",
}
"""Files and folders outside docs/ -> their place in the site."""
LEFT_OUT = {"site", "example"}
"""Folders of docs/ without pages."""
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
ELSEWHERE = ("http://", "https://", "mailto:")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def sources() -> dict[Path, Path]:
    """Every file of the repository that is a page or picture of the site -> its place there."""
    found = {
        path: path.relative_to(DOCS)
        for path in sorted(DOCS.rglob("*"))
        if path.is_file() and path.relative_to(DOCS).parts[0] not in LEFT_OUT
    }
    return found | {ROOT / name: Path(page) for name, page in RENAMED.items() if (ROOT / name).is_file()}


def collect(pages: Path) -> None:
    """Write all pages and pictures of the site below a folder; ValueError names a link that leads nowhere."""
    places = sources()
    for source, place in places.items():
        target = pages / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(_with_links(source, place, places, pages))
        else:
            shutil.copy(source, target)
    for place, text in generated_pages().items():
        target = pages / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    (pages / "extra.css").write_text((Path(__file__).parent / "extra.css").read_text())


def _with_links(source: Path, place: Path, places: dict[Path, Path], pages: Path) -> str:
    """The text of a page with its links adjusted for the site; code is left unchanged."""

    def changed(found: re.Match[str]) -> str:
        before, link, after = found.groups()
        return f"{before}{_link(link, source, place, places, pages)}{after}"

    text, parts, end = source.read_text(), [], 0
    for code in CODE.finditer(text):
        parts += [LINK.sub(changed, text[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*parts, LINK.sub(changed, text[end:])])


def _link(link: str, source: Path, place: Path, places: dict[Path, Path], pages: Path) -> str:
    path, hash_, anchor = link.partition("#")
    if link.startswith(ELSEWHERE) or not path:
        return link
    target = (source.parent / unquote(path)).resolve()
    if not target.exists() or ROOT not in target.parents:
        raise ValueError(f"{source.relative_to(ROOT)}: the link {link!r} leads to no file of the repository")
    inside = target.relative_to(ROOT)
    page = places.get(target) or (Path(RENAMED[str(inside)]) if str(inside) in RENAMED else None)
    if page is None:
        page = Path("files") / f"{inside}.txt"
        (pages / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(target, pages / page)
    up = "../" * (len(place.parts) - 1)
    return f"{up}{page}{hash_}{anchor}"


def build(folder: Path) -> None:
    """Collect the pages into `folder`/pages and build them into `folder`/html."""
    shutil.rmtree(folder, ignore_errors=True)
    collect(folder / "pages")
    shutil.copy(Path(__file__).parent / "zensical.toml", folder)
    # mkdocstrings reads the sources without importing them.
    (folder / "specdyn").symlink_to(ROOT / "specdyn", target_is_directory=True)
    subprocess.run([Path(sys.executable).parent / "zensical", "build", "--clean", "--strict"], cwd=folder, check=True)
    print(f"open {folder / 'html' / 'index.html'}")


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())
