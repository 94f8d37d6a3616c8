"""How values are shown in notebooks. Everything that somebody wrote is escaped."""

from __future__ import annotations

from html import escape
from typing import Any, Callable, Iterable, Tuple

Cells = Tuple[str, ...]


def paragraphs(text: str) -> str:
    """A text with its line breaks."""
    return f'<div style="white-space: pre-wrap">{escape(text)}</div>'


def table(heads: Cells, rows: Iterable[Cells]) -> str:
    """A table of texts."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align: left; white-space: pre-wrap">{escape(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def rows_of(items: Iterable[Any]) -> Tuple[Cells, Iterable[Cells]]:
    """The heads and rows of sessions, messages, or anything."""
    items = list(items)
    columns: Tuple[Tuple[str, Callable[[Any], str]], ...]
    if items and hasattr(items[0], "title"):
        columns = (
            ("id", lambda item: item.id),
            ("title", lambda item: item.title),
            ("messages", lambda item: str(item.message_count)),
            ("used", lambda item: item.updated_at.isoformat(" ", "seconds")),
        )
    elif items and hasattr(items[0], "role"):
        columns = (("role", lambda item: item.role), ("text", lambda item: item.text))
    else:
        columns = (("item", repr),)
    heads = tuple(name for name, _ in columns)
    return heads, [tuple(show(item) for _, show in columns) for item in items]
