"""The words of a text as BM25 compares them: lower-case stems without stop words.

Done here and not by the index, so that every index reads the same words, in every language
(Snowball stemmers, Porter 2001). Both what is indexed and what is searched goes through it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from threading import local

import bm25s.stopwords
import Stemmer

WORD = re.compile(r"\w\w+")
DEFAULT_LANGUAGE = "en"
"""Of texts that do not say."""
ALGORITHMS = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fa": "persian",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "nb": "norwegian",
    "ne": "nepali",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
"""Snowball's stemmers by ISO 639-1 language; texts in others keep their words as they are."""

_of_thread = local()  # a stemmer must not be shared by threads


@lru_cache
def _stop_words(language: str) -> frozenset[str]:
    name = "EN" if language == "en" else ALGORITHMS.get(language, "").upper()
    return frozenset(getattr(bm25s.stopwords, f"STOPWORDS_{name}", ()))


def _stemmer(language: str) -> Stemmer.Stemmer:
    stemmers: dict[str, Stemmer.Stemmer] = _of_thread.__dict__.setdefault("stemmers", {})
    if language not in stemmers:
        stemmers[language] = Stemmer.Stemmer(ALGORITHMS[language])
    return stemmers[language]


def stems(words: list[str], language: str) -> list[str]:
    """The stem of every word ``[len(words)]``, lower case; stop words are stemmed, too."""
    lowered = [word.lower() for word in words]
    if (language or DEFAULT_LANGUAGE) not in ALGORITHMS:
        return lowered
    stemmed: list[str] = _stemmer(language or DEFAULT_LANGUAGE).stemWords(lowered)
    return stemmed


def analysed(text: str, language: str) -> str:
    """Stems of the text's words, separated by blanks, in their order.

    Args:
        text: any text.
        language: ISO 639-1; empty: English.
    """
    ignored = _stop_words(language or DEFAULT_LANGUAGE)
    return " ".join(
        stems([word for word in WORD.findall(text.lower()) if word not in ignored], language)
    )


def analysed_query(texts: Iterable[str], languages: Iterable[str]) -> str:
    """Every distinct stem of the texts, read in each language, separated by blanks.

    A query does not say its language: it is read as the interface's and as English.
    """
    readings = list(dict.fromkeys(language or DEFAULT_LANGUAGE for language in languages))
    found = (analysed(text, language).split() for text in texts for language in readings)
    return " ".join(dict.fromkeys(stem for stems_ in found for stem in stems_))
