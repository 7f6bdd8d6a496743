from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recmesh.models.behavioral.last_state import LastState
from recmesh.models.behavioral.sasrec import SASRec
from recmesh.models.behavioral.sequence import EVENT_KINDS, GAP_BUCKETS, LENGTH
from recmesh.storage.errors import DataError

ITEMS, DIM = 30, 8
EVENT = st.tuples(
    st.integers(1, ITEMS), st.integers(0, EVENT_KINDS - 1), st.integers(1, GAP_BUCKETS - 1)
)


def network(blocks: int) -> SASRec:
    torch.manual_seed(blocks)
    net = SASRec(ITEMS, DIM, blocks, 0.0).eval()
    for parameter in net.parameters():
        # As far from a fresh network's ones and zeros as training leads.
        torch.nn.init.normal_(parameter, std=0.7)
    return net


def weights(net: SASRec) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


NETS = {blocks: network(blocks) for blocks in (1, 2, 3)}


@settings(deadline=None)
@given(st.sampled_from(sorted(NETS)), st.lists(EVENT, min_size=1, max_size=LENGTH))
def test_it_is_what_the_network_says(blocks: int, events: list[tuple[int, int, int]]) -> None:
    columns = [np.array(column, np.int64) for column in zip(*events, strict=True)]
    with torch.inference_mode():
        expected = NETS[blocks](*(torch.from_numpy(column)[None] for column in columns))[0, -1]
    state = LastState(weights(NETS[blocks]), ITEMS, DIM, blocks)
    np.testing.assert_allclose(state(*columns), expected.numpy(), atol=1e-4)


def test_weights_of_another_shape_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"items.weight is \[31, 8\], not \[32, 8\]"):
        LastState(weights(NETS[1]), ITEMS + 1, DIM, 1)
    with pytest.raises(KeyError, match=r"blocks\.1"):
        LastState(weights(NETS[1]), ITEMS, DIM, 2)
