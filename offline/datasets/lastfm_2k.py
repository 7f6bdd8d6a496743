"""HetRec 2011 Last.fm 2k: artists, friends, and the day a user first tagged an artist."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from recmesh.offline.datasets.conversion import Conversion, Rows

FIRST_YEAR = 2005  # earlier days are from before tagging existed: defects of the dump


def _lines(file: Path) -> Iterator[list[str]]:
    # artists.dat is UTF-8, tags.dat Latin-1; each line says which.
    for line in file.read_bytes().split(b"\n")[1:]:
        if line.strip():
            try:
                text = line.decode()
            except UnicodeDecodeError:
                text = line.decode("latin-1")
            yield text.rstrip("\r").split("\t")


def convert(source: Path) -> Conversion:
    """Artists as items, one click per (user, artist) at its first day, friends as edges."""
    first: dict[tuple[str, str], datetime] = {}
    dated = early = 0
    for user, artist, _, day, month, year in _lines(source / "user_taggedartists.dat"):
        if int(year) < FIRST_YEAR:
            early += 1
            continue
        dated += 1
        time = datetime(int(year), int(month), int(day), tzinfo=UTC)
        first[user, artist] = min(time, first.get((user, artist), time))
    friends = [(a, b) for a, b in _lines(source / "user_friends.dat")]
    users = {user for user, _ in first} | {user for pair in friends for user in pair}
    listens = [row[0] for row in _lines(source / "user_artists.dat")]
    users |= set(listens)
    rows: Rows = {
        "items": [
            {"item_id": row[0], "content_type": "artist", "title": row[1]}
            for row in _lines(source / "artists.dat")
        ],
        "users": [{"user_id": user} for user in sorted(users, key=int)],
        "events": [
            {
                "event_id": f"{user}-{artist}",
                "user_id": user,
                "item_id": artist,
                "event_type": "click",
                "time": time,
            }
            for (user, artist), time in first.items()
        ],
        "edges": [
            {"source_user_id": a, "target_user_id": b, "edge_type": "friend"} for a, b in friends
        ],
    }
    return Conversion(
        rows,
        {
            "later tags of the same artist by the same user": dated - len(first),
            f"tags dated before {FIRST_YEAR}": early,
            "play counts, which have no date": len(listens),
        },
    )
