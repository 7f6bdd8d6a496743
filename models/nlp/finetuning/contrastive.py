"""The contrastive loss: an anchor must tell its own text from the others of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def pooled(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real tokens' states: ``[n, tokens, dim]`` to ``[n, dim]``."""
    weight = mask[:, :, None].to(states.dtype)
    return (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def info_nce(
    anchors: Tensor, texts: Tensor, compared: Tensor, scale: float, dims: Sequence[int] = ()
) -> Tensor:
    """InfoNCE over a batch (van den Oord et al. 2018; in-batch negatives, Henderson et al. 2017).

    Args:
        anchors: ``[n, dim]``; anchor ``i`` belongs to text ``i``.
        texts: ``[m, dim]``, m ≥ n.
        compared: bool ``[n, m]``; texts that an anchor is compared with, its own among them.
        scale: of the cosines: 1 / temperature.
        dims: also ask it of the first so many dimensions each, so that vectors can be cut
            (Matryoshka, Kusupati et al. 2022); the mean of all.

    Returns:
        Scalar, the mean over anchors.
    """
    own = torch.arange(len(anchors), device=anchors.device)
    losses = []
    for dim in (*dims, anchors.shape[1]):
        cosines = normalize(anchors[:, :dim], dim=1) @ normalize(texts[:, :dim], dim=1).T
        logits = (cosines * scale).masked_fill(~compared, float("-inf"))
        losses.append(cross_entropy(logits, own))
    return torch.stack(losses).mean()
