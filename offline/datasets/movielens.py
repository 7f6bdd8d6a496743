"""MovieLens 100k and latest-small: ratings as clicks, genres as topics."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recmesh.offline.datasets.conversion import Conversion, Rows


def _event(user: str, movie: str, rating: str, unix_s: str) -> dict[str, Any]:
    return {
        "event_id": f"{user}-{movie}",
        "user_id": user,
        "item_id": movie,
        "event_type": "click",
        "time": datetime.fromtimestamp(int(unix_s), UTC),
        "rating": float(rating),
    }


def _rows(file: Path, separator: str) -> list[list[str]]:
    return [line.split(separator) for line in file.read_text("latin-1").split("\n") if line]


def convert_100k(source: Path) -> Conversion:
    """Folder with ``u.data``, ``u.item``, ``u.user`` and ``u.genre``, or RecBole's copy of it."""
    if (source / "ml-100k.inter").is_file():
        return _recbole(source)
    genres = [row[0] for row in _rows(source / "u.genre", "|")]
    rows: Rows = {
        "items": [
            {
                "item_id": row[0],
                "content_type": "movie",
                "title": row[1],
                "topics": [g for g, flag in zip(genres, row[5:], strict=False) if flag == "1"],
            }
            for row in _rows(source / "u.item", "|")
        ],
        "users": [
            {"user_id": row[0], "interests": f"{row[3]}, age {row[1]}"}
            for row in _rows(source / "u.user", "|")
        ],
        "events": [_event(*row) for row in _rows(source / "u.data", "\t")],
    }
    return Conversion(rows)


def _recbole(source: Path) -> Conversion:
    """RecBole's atomic files: tab-separated, with a header."""
    films = _rows(source / "ml-100k.item", "\t")[1:]
    people = _rows(source / "ml-100k.user", "\t")[1:]
    rows: Rows = {
        "items": [
            {
                "item_id": item,
                "content_type": "movie",
                "title": f"{title} ({year})" if year else title,
                "topics": genres.split(),
            }
            for item, title, year, genres in films
        ],
        "users": [
            {"user_id": user, "interests": f"{occupation}, age {age}"}
            for user, age, _, occupation, _ in people
        ],
        "events": [_event(*row) for row in _rows(source / "ml-100k.inter", "\t")[1:]],
    }
    return Conversion(rows)


def convert_latest_small(source: Path) -> Conversion:
    """Folder with ``movies.csv`` and ``ratings.csv``."""
    with (source / "movies.csv").open(encoding="utf-8", newline="") as stream:
        movies = list(csv.DictReader(stream))
    with (source / "ratings.csv").open(encoding="utf-8", newline="") as stream:
        ratings = list(csv.DictReader(stream))
    events = [_event(r["userId"], r["movieId"], r["rating"], r["timestamp"]) for r in ratings]
    rows: Rows = {
        "items": [
            {
                "item_id": movie["movieId"],
                "content_type": "movie",
                "title": movie["title"],
                "topics": [g for g in movie["genres"].split("|") if not g.startswith("(")],
            }
            for movie in movies
        ],
        "users": [{"user_id": user} for user in dict.fromkeys(r["userId"] for r in ratings)],
        "events": events,
    }
    return Conversion(rows)
