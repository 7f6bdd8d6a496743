"""Filling all users' pages at once gives what the slate solver gives one by one."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recmesh.offline.tuning.batch_interest_match import NO_TOPIC, InterestTopics
from recmesh.offline.tuning.batch_slate import fill
from recmesh.offline.tuning.candidates import Candidates
from recmesh.orchestrator.blend import ScoreMatrix
from recmesh.orchestrator.slate.candidates import SlateCandidates
from recmesh.orchestrator.slate.rules import SlateRules
from recmesh.orchestrator.slate.select import select

SLOTS, TOPICS = 8, 6


def instance(
    seed: int, users: int, width: int
) -> tuple[Candidates, np.ndarray, np.ndarray, np.ndarray]:
    """Random candidates with their utilities, topic bits and interests in each."""
    generator = np.random.default_rng(seed)
    has = generator.random((users, width, TOPICS)) < 0.25
    rows = np.tile(np.arange(width, dtype=np.int32), (users, 1))
    rows[0, width - width // 3 :] = -1
    has[rows < 0] = False
    topics = np.argsort(~has, axis=2, kind="stable").astype(np.int32)
    topics[~np.take_along_axis(has, topics.astype(np.int64), axis=2)] = NO_TOPIC
    shared = np.einsum("uit,ujt->uij", has, has, dtype=np.float32)
    size = has.sum(axis=2, dtype=np.float32)
    similarity = shared / np.maximum(size[:, :, None] + size[:, None, :] - shared, 1)
    interests = np.zeros((users, 64), np.float32)
    interests[:, :TOPICS] = generator.integers(0, 4, (users, TOPICS)) / 16.0
    # Of one user nothing is known.
    interests[-1] = 0.0
    candidates = Candidates(
        catalog=cast(Any, None),
        now_unix_s=0,
        users=[str(user) for user in range(users)],
        scorers=(),
        rows=rows,
        matrix=cast(ScoreMatrix, None),
        wanted=rows < 0,
        n_wanted=np.ones(users, np.int64),
        paid=(generator.random(rows.shape) < 0.3).astype(np.float32),
        topics=topics,
        authors=generator.integers(0, 4, rows.shape),
        similarity=similarity,
        interest_topics=InterestTopics.of(topics, interests),
    )
    # Few different values: ties are decided alike.
    utility = generator.integers(0, 8, rows.shape) / 8.0
    return candidates, utility, has, interests


@given(
    seed=st.integers(0, 10_000),
    width=st.integers(1, 24),
    rules=st.builds(
        SlateRules,
        diversity=st.sampled_from(["mmr", "dpp"]),
        diversity_strength=st.sampled_from([0.0, 0.25, 0.5]),
        calibration_weight=st.sampled_from([0.0, 0.05, 1.0]),
        max_per_topic=st.sampled_from([None, 1, 2]),
        max_per_author=st.sampled_from([None, 1, 2]),
        sponsored_share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        sponsored_spacing=st.integers(0, 2),
    ),
)
@settings(max_examples=300, deadline=None)
def test_it_agrees_with_the_slate_solver(seed: int, width: int, rules: SlateRules) -> None:
    candidates, utility, has, interests = instance(seed, 3, width)
    if rules.diversity == "dpp":
        # Volumes that tie differ by their rounding, here and there in another direction.
        utility = utility + np.random.default_rng(seed).permutation(width) / 1024.0
    paid = candidates.paid > 0
    chosen = fill(candidates, utility, paid, rules, SLOTS)
    for user in range(3):
        bits = (has[user] @ (1 << np.arange(TOPICS))).astype(np.uint64)[:, None]
        exists = candidates.exists[user]
        one = SlateCandidates(
            utility=np.where(exists, utility[user], -np.inf).astype(np.float32),
            topics=bits,
            author=candidates.authors[user],
            sponsored=paid[user],
            interests=interests[user] if interests[user].any() else None,
        )
        expected = select(one, rules, SLOTS).chosen
        found = chosen[user][chosen[user] >= 0]
        np.testing.assert_array_equal(found, expected)
