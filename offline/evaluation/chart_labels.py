"""Where the labels of points go, so that they keep off each other and off the points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recmesh.offline.evaluation.bootstrap import Interval

Float64 = npt.NDArray[np.float64]

PLOT_PX = np.array([380.0, 310.0])
"""A plot's size, on the small side: what fits there fits everywhere."""
LETTER_PX, LINE_PX = 6.6, 16.0
DISTANCES_PX = (18.0, 30.0, 46.0)
DIRECTIONS = 16
DISTANT = 4.0
"""Square pixels of overlap that a pixel further away is worth."""


def label_offsets(
    across: Sequence[Interval],
    up: Sequence[Interval],
    letters: Sequence[int],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> list[tuple[float, float]]:
    """Pixels right and down from each point to the middle of its label.

    Labels are placed one after the other, each where it covers least of the points, their error
    bars, the labels so far and what lies outside the plot.

    Args:
        across: value and error bar of every point to the right.
        up: the same upwards.
        letters: of every label.
        x_range: ends of the axis.
        y_range: ends of the axis.
    """
    low = np.array([x_range[0], y_range[0]])
    scale = PLOT_PX / (np.array([x_range[1], y_range[1]]) - low)
    taken: list[tuple[Float64, Float64]] = []  # middle, half the size
    middles = []
    for x, y in zip(across, up, strict=True):
        middle = (np.array([x.value, y.value]) - low) * scale
        middles.append(middle)
        bars = np.array([[x.low, y.value], [x.high, y.value], [x.value, y.low], [x.value, y.high]])
        left, right, bottom, top = (bars - low) * scale
        taken.append((middle, np.array([7.0, 7.0])))
        taken.append(((left + right) / 2, np.array([(right - left)[0] / 2, 2.0])))
        taken.append(((bottom + top) / 2, np.array([2.0, (top - bottom)[1] / 2])))
    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = []
    for middle, length in zip(middles, letters, strict=True):
        half = np.array([length * LETTER_PX / 2, LINE_PX / 2])
        offsets = np.concatenate(
            [around * (distance + np.array([half[0] * 0.7, 0.0])) for distance in DISTANCES_PX]
        )
        costs = [_covered(middle + offset, half, taken) for offset in offsets]
        costs = [
            cost + DISTANT * float(np.linalg.norm(offset))
            for cost, offset in zip(costs, offsets, strict=True)
        ]
        best = offsets[int(np.argmin(costs))]
        taken.append((middle + best, half))
        found.append((float(round(best[0], 1)), float(round(-best[1], 1))))
    return found


def _covered(middle: Float64, half: Float64, taken: list[tuple[Float64, Float64]]) -> float:
    """Square pixels that a label covers of what is taken, and has outside the plot."""
    centres = np.array([centre for centre, _ in taken])
    halves = np.array([size for _, size in taken])
    overlap = np.maximum(half + halves - np.abs(centres - middle), 0.0)
    inside = np.minimum(middle + half, PLOT_PX) - np.maximum(middle - half, 0.0)
    outside = 4 * np.prod(half) - np.prod(np.maximum(inside, 0.0))
    return float(np.prod(np.minimum(overlap, 2 * half), axis=1).sum() + 8 * outside)
