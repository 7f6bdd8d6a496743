"""SASRec: self-attentive sequential recommendation (Kang & McAuley, ICDM 2018).

Beside its items, a sequence carries what was done with them and how long ago.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recmesh.models.behavioral.sequence import EVENT_KINDS, GAP_BUCKETS, LENGTH


class _Block(nn.Module):
    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(dim)
        self.mix = nn.Linear(dim, 3 * dim)
        self.before_forward = nn.LayerNorm(dim)
        self.forward_net = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, allowed: Tensor) -> Tensor:
        query, key, value = self.mix(self.before_attention(states)).chunk(3, dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(
            query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1), attn_mask=allowed
        ).squeeze(1)
        states = states + self.dropout(mixed)
        out: Tensor = states + self.dropout(self.forward_net(self.before_forward(states)))
        return out


class SASRec(nn.Module):
    """Maps sequences to states in the space of item vectors.

    Inputs are int64 ``[batch, length]``, right-padded with item 0; items count from 1.
    """

    def __init__(self, items: int, dim: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 1, dim, padding_idx=0)
        self.kinds = nn.Embedding(EVENT_KINDS, dim)
        self.gaps = nn.Embedding(GAP_BUCKETS, dim)
        self.positions = nn.Embedding(LENGTH, dim)
        self.blocks = nn.ModuleList(_Block(dim, dropout) for _ in range(blocks))
        self.last = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        for table in (self.items, self.kinds, self.gaps, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, items: Tensor, kinds: Tensor, gaps: Tensor) -> Tensor:
        """States ``[batch, length, dim]``; each knows its own and earlier events only."""
        length = items.shape[1]
        states = self.items(items) + self.kinds(kinds) + self.gaps(gaps)
        states = self.dropout(states + self.positions.weight[:length])
        allowed = torch.ones(length, length, dtype=torch.bool).tril().expand(1, 1, -1, -1)
        for block in self.blocks:
            states = block(states, allowed)
        out: Tensor = self.last(states)
        return out
