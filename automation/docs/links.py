"""The links of a built site: inside, each leads to a file and an anchor; outside, its form is that of an address.

Nothing that a page needs to be shown comes from another server, so that the site is whole without a network.
"""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}  # link: styles and icons
NAMED_ONLY = ("canonical", "prev", "next", "alternate", "edit")  # <link rel=...> that loads nothing


@dataclass
class Page(HTMLParser):
    """What a page of HTML has: its anchors, where it leads, and what it loads."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Called for each tag, as HTMLParser has it."""
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if (name := LOADED.get(tag, "")) in values and values.get("rel") not in NAMED_ONLY:
            self.loads.append(values[name])


def mistakes(site: Path) -> list[str]:
    """The links of the site in the folder `site` that lead nowhere, and what it loads from elsewhere, a line each."""
    pages = {path: _parsed(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        for link in [*page.links, *page.loads]:
            if mistake := _mistake(link, path, pages, site):
                found.append(f"{where}: {link}: {mistake}")
        found += [f"{where}: {link}: is loaded from elsewhere" for link in page.loads if urlsplit(link).netloc]
    return found


def _parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _mistake(link: str, path: Path, pages: dict[Path, Page], site: Path) -> str:
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        return "" if parts.hostname and "." in parts.hostname or parts.hostname == "localhost" else "has no host"
    if parts.scheme:
        return "" if parts.scheme in ("mailto", "data") else f"{parts.scheme}: is no scheme of a link"
    base = site if parts.path.startswith("/") else path.parent
    target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "there is no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors | {"__search"}:
        return "there is no such heading"
    return ""
