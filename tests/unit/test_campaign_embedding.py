from __future__ import annotations

import numpy as np

from recmesh.models.nlp.campaign_embedding import CampaignEmbedding

EAST, NORTH = np.eye(2, dtype=np.float32)
NOBODY = np.empty((0, 2), np.float32)


def test_parts_weigh_alike_however_many_vectors_they_have() -> None:
    way = CampaignEmbedding(audience=1.0)
    vector = way.embed(EAST[None], NOBODY, np.stack([NORTH] * 9))
    np.testing.assert_allclose(vector, (EAST + NORTH) / np.sqrt(2), atol=1e-6)  # type: ignore[arg-type]


def test_unknown_parts_take_no_part() -> None:
    way = CampaignEmbedding(targeting=1.0, audience=1.0)
    np.testing.assert_allclose(way.embed(EAST[None], NOBODY, NOBODY), EAST)  # type: ignore[arg-type]
    assert way.embed(NOBODY, NOBODY, NOBODY) is None
