"""Words of texts as vectors, and the lexicon's topics of them."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recmesh.offline.world.columns import Ints
from recmesh.offline.world.lexicon import TOPICS

COMMON = 0.2
"""Words in a larger share of the texts say nothing."""


def word_vectors(texts: pa.Array) -> sp.csr_matrix:
    """TF-IDF rows of unit length; zero where a text shares no word with another.

    Args:
        texts: lower-case strings, ``[n]``.
    """
    words = pc.split_pattern_regex(texts, r"[^\p{L}\p{N}]+")
    text = pc.list_parent_indices(words).to_numpy()
    codes = pc.list_flatten(words).dictionary_encode()
    length = pc.utf8_length(codes.dictionary).to_numpy()
    column = codes.indices.to_numpy()
    counts = sp.coo_matrix(
        (np.ones(len(column)), (text, column)), shape=(len(texts), len(length))
    ).tocsr()
    shared = np.bincount(counts.indices, minlength=len(length))
    useful = (shared > 1) & (shared <= max(2.0, COMMON * len(texts))) & (length > 2)
    counts = counts[:, np.flatnonzero(useful)]
    counts.data = (1 + np.log(counts.data)) * np.log(len(texts) / shared[useful])[counts.indices]
    norms = np.sqrt(counts.multiply(counts).sum(axis=1)).A1
    return sp.diags_array(1 / np.maximum(norms, 1e-12)) @ counts


def named_topics(texts: pa.Array) -> Ints:
    """The topic whose terms a text names most often, a row of TOPICS; -1 where it names none.

    Args:
        texts: lower-case strings, ``[n]``.
    """
    hits = np.zeros((len(TOPICS), len(texts)), np.int64)
    for row, topic in enumerate(TOPICS):
        pattern = r"\b(" + "|".join(re.escape(term.lower()) for term in topic.terms) + r")\b"
        hits[row] = pc.count_substring_regex(texts, pattern).to_numpy()
    return np.where(hits.max(axis=0) > 0, hits.argmax(axis=0), -1)


def nearest_topics(vectors: sp.csr_matrix, topic: Ints) -> Ints:
    """Gives texts without a topic that of the most similar mean text of a topic.

    Args:
        vectors: rows of unit length, ``[n, words]``.
        topic: ``[n]``, -1: none.

    Returns:
        ``[n]``; -1 where a text shares no word with those that have a topic.
    """
    known = np.flatnonzero(topic >= 0)
    member = sp.coo_matrix(
        (np.ones(len(known)), (topic[known], known)), shape=(len(TOPICS), len(topic))
    ).tocsr()
    means = member @ vectors
    norms = np.sqrt(means.multiply(means).sum(axis=1)).A1
    means = sp.diags_array(1 / np.maximum(norms, 1e-12)) @ means
    unknown = np.flatnonzero(topic < 0)
    likeness = np.asarray((vectors[unknown] @ means.T).todense()).reshape(len(unknown), len(TOPICS))
    found = topic.copy()
    found[unknown] = np.where(likeness.max(axis=1) > 0, likeness.argmax(axis=1), -1)
    return found


def directions(vectors: sp.csr_matrix, dim: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random projection, ``[n, dim]`` of unit variance: alike texts, alike directions.

    Rows without words are drawn from a standard normal.
    """
    projected = np.asarray(vectors @ rng.standard_normal((vectors.shape[1], dim)))
    drawn = rng.standard_normal(projected.shape)
    empty = np.diff(vectors.indptr) == 0
    return np.where(empty[:, None], drawn, projected)
