"""Contract: Describe, the shape of answers, and how wrong requests are refused."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np

from recmesh.models.model import Capability
from recmesh.offline.model_checks.check import Check
from recmesh.offline.model_checks.model_port import Reply
from recmesh.offline.model_checks.opinions import difference, opinions
from recmesh.offline.model_checks.result import Result, Rules
from recmesh.offline.model_checks.subject import Subject
from recmesh.v1 import common_pb2, model_pb2

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LIMITS = (1, 10, 200)
SAME_SCALE = 1e-4
UNIT_LENGTH = 1e-2
TRACEBACK = re.compile(r'Traceback \(most recent|File ".*", line \d|\n\s+at .*:\d+')
CLEAR = {"INVALID_ARGUMENT"}
UNREADABLE = {"INVALID_ARGUMENT", "INTERNAL"}
"""What is no message at all: gRPC itself answers INTERNAL in most languages."""


async def contract(subject: Subject) -> Result:
    """Holds the model to the proto, rule by rule."""
    rules = Rules()
    await _described(subject, rules)
    if subject.can(Capability.RETRIEVE):
        await _retrieves(subject, rules)
    if subject.can(Capability.SCORE):
        await _scores(subject, rules)
    if subject.can(Capability.EMBED):
        await _embeds(subject, rules)
    await _refuses(subject, rules)
    return rules.result(f"all {rules.held} rules hold")


async def _described(subject: Subject, rules: Rules) -> None:
    said = subject.said
    rules.hold(
        bool(NAME.fullmatch(said.name)),
        f"Describe says the name {said.name!r}",
        "Describe.name is lower-case words joined by dashes, as in the policy.",
    )
    for field in ("version", "owner"):
        rules.hold(
            bool(getattr(said, field)),
            f"Describe says no {field}",
            "Describe.version is the artifact's hash, Describe.owner a team with its contact.",
        )
    offered = list(said.capabilities)
    rules.hold(
        bool(offered) and 0 not in offered and len(set(offered)) == len(offered),
        f"Describe says the capabilities {offered}",
        "Describe.capabilities names each call that is offered once: RETRIEVE, SCORE, EMBED.",
    )
    rules.hold(
        all(NAME.fullmatch(surface) for surface in said.surfaces),
        f"Describe says the surfaces {list(said.surfaces)}",
        "Surfaces are lower-case words joined by dashes; none means all.",
    )
    embeds = subject.can(Capability.EMBED)
    rules.hold(
        embeds == (said.embedding_dim > 0) == bool(said.embedding_version),
        f"Describe says dimension {said.embedding_dim} and version {said.embedding_version!r} of "
        f"embeddings, and {'offers' if embeds else 'does not offer'} Embed",
        "Say embedding_dim and embedding_version if the model embeds, else neither.",
    )
    spoken = list(said.embedding_versions)
    rules.hold(
        (not spoken or said.embedding_version in spoken)
        and len(said.embedding_calibrations) in (0, len(spoken)),
        f"Describe says embedding_versions {spoken} with {len(said.embedding_calibrations)} "
        f"calibrations, and speaks {said.embedding_version!r}",
        "embedding_versions holds embedding_version, embedding_calibrations one for each.",
    )
    for calibration in (said.calibration, *said.embedding_calibrations):
        _calibrated(calibration, rules)
    again = await subject.port.describe()
    rules.hold(again == said, "Describe answers differently twice", "Describe is constant.")
    declared = subject.declaration
    if declared is not None:
        rules.hold(
            said.name == declared.name,
            f"Describe says the name {said.name!r}, model.toml {declared.name!r}",
            "Give Describe the name of model.toml.",
        )
        rules.hold(
            said.owner == declared.owner,
            f"Describe says the owner {said.owner!r}, model.toml {declared.owner!r}",
            "Give the model's card the owner of model.toml, and train again.",
        )
    if subject.version:
        rules.hold(
            said.version.startswith(subject.version),
            f"Describe says version {said.version}, {subject.version} was chosen",
            "Describe.version is the version of the artifact that was loaded.",
        )


def _calibrated(calibration: model_pb2.ScoreCalibration, rules: Rules) -> None:
    raw = np.array(calibration.raw_scores, np.float64)
    values = np.array(calibration.probabilities, np.float64)
    rules.hold(
        len(raw) == len(values) and len(raw) != 1,
        f"the calibration has {len(raw)} raw scores and {len(values)} probabilities",
        "A calibration has at least two knots, each a raw score and a probability; or none.",
    )
    rules.hold(
        bool(np.isfinite(raw).all() and (np.diff(raw) > 0).all()),
        "the calibration's raw scores do not increase",
        "Sort the calibration's knots by raw score, and merge equal ones.",
    )
    rules.hold(
        bool(((values >= 0) & (values <= 1)).all() and (np.diff(values) >= 0).all()),
        "the calibration's probabilities decrease, or leave [0, 1]",
        "Fit the calibration with a monotone method, such as isotonic regression.",
    )


async def _retrieves(subject: Subject, rules: Rules) -> None:
    asks = subject.asks
    for user in asks.users[:4]:
        for limit in LIMITS:
            found = await subject.port.retrieve(asks.retrieve(user, limit))
            _shaped_list(found, limit, subject.said.version, rules)
        if subject.can(Capability.SCORE) and found.item_ids:
            scored = opinions(await subject.port.score(asks.score(user, list(found.item_ids))))
            apart = difference(np.array(found.scores, np.float64), scored)
            rules.hold(
                apart <= SAME_SCALE,
                f"Score differs from Retrieve's score of the same item by {apart:.2g}",
                "Retrieve and Score give an item of one user the same raw score: compute both by "
                "one function.",
            )


def _shaped_list(found: model_pb2.RetrieveResponse, limit: int, version: str, rules: Rules) -> None:
    n = len(found.item_ids)
    rules.hold(
        n <= limit,
        f"Retrieve gave {n} items where at most {limit} were asked",
        "Cut Retrieve's answer to limit.",
    )
    rules.hold(
        n == len(found.scores),
        f"Retrieve gave {n} items and {len(found.scores)} scores",
        "Give one score an item.",
    )
    rules.hold(
        len(set(found.item_ids)) == n and "" not in found.item_ids,
        "Retrieve gave an item twice, or one without an id",
        "Give each item once, by its id.",
    )
    _versioned("Retrieve", found.version, version, rules)


def _versioned(method: str, given: str, version: str, rules: Rules) -> None:
    rules.hold(
        given == version,
        f"{method} says version {given!r}, Describe {version!r}",
        "Every answer says the version that Describe says.",
    )


async def _scores(subject: Subject, rules: Rules) -> None:
    asks = subject.asks
    for user in asks.users[:4]:
        for n in (1, 10, 200):
            answer = await subject.port.score(asks.score(user, asks.some(n)))
            rules.hold(
                len(answer.scores) == n,
                f"Score gave {len(answer.scores)} scores for {n} items",
                "Give one score an item, in the order asked; name missing ones in missing.",
            )
            places = list(answer.missing)
            rules.hold(
                places == sorted(set(places)) and all(place < n for place in places),
                "Score's missing holds places that do not increase, or lie beyond the items",
                "missing holds places in item_ids, from 0, increasing.",
            )
            _versioned("Score", answer.version, subject.said.version, rules)


async def _embeds(subject: Subject, rules: Rules) -> None:
    said, texts = subject.said, ["heart failure", "skin"]
    answers = [
        (2, model_pb2.EmbedRequest(texts=model_pb2.TextBatch(texts=texts))),
        (1, model_pb2.EmbedRequest(user=subject.asks.users[0], now_unix_s=subject.asks.now_unix_s)),
    ]
    for n, request in answers:
        answer = await subject.port.embed(request)
        good = answer.dim == said.embedding_dim and len(answer.values) == n * answer.dim
        rules.hold(
            good,
            f"Embed gave {len(answer.values)} values of dimension {answer.dim} for {n} inputs",
            "Embed gives embedding_dim values for each input.",
        )
        if good:
            vectors = np.array(answer.values, np.float64).reshape(n, answer.dim)
            lengths = np.linalg.norm(np.delete(vectors, list(answer.missing), axis=0), axis=1)
            rules.hold(
                bool((np.abs(lengths - 1) <= UNIT_LENGTH).all()),
                "Embed gave vectors that are not of length 1",
                "Divide vectors by their length.",
            )
        _versioned("Embed", answer.embedding_version, said.embedding_version, rules)
    other = model_pb2.EmbedRequest(
        texts=model_pb2.TextBatch(texts=texts), embedding_version="no-such-space"
    )
    _refused(
        await subject.port.call("Embed", other),
        {"FAILED_PRECONDITION"},
        "an embedding version that does not exist",
        rules,
    )


def _refused(reply: Reply, codes: set[str], what: str, rules: Rules) -> None:
    wanted = " or ".join(sorted(codes))
    rules.hold(
        reply.code.name in codes,
        f"{reply.method} answered {reply.code.name} to {what}, not {wanted}",
        f"Answer {wanted} to {what}, so that callers know that a retry is of no use.",
    )
    rules.hold(
        not TRACEBACK.search(reply.words),
        f"{reply.method} sent a traceback to its caller",
        "Keep tracebacks in the log: they tell callers of code and perhaps of people.",
    )


async def _refuses(subject: Subject, rules: Rules) -> None:
    asks = subject.asks
    requests: dict[Capability, Any] = {
        Capability.RETRIEVE: asks.retrieve(asks.users[0], 5),
        Capability.SCORE: asks.score(asks.users[0], asks.some(5)),
        Capability.EMBED: model_pb2.EmbedRequest(texts=model_pb2.TextBatch(texts=["heart"])),
    }
    for capability, request in requests.items():
        method = capability.name.capitalize()
        if not subject.can(capability):
            reply = await subject.port.call(method, request)
            _refused(reply, {grpc.StatusCode.UNIMPLEMENTED.name}, "a call it does not offer", rules)
            continue
        reply = await subject.port.call(method, b"\xff\xff\xff\xff")
        _refused(reply, UNREADABLE, "bytes that are no message", rules)
        if capability is not Capability.EMBED:
            for user in _misaligned(asks.users[0]):
                wrong = type(request).FromString(request.SerializeToString())
                wrong.user.CopyFrom(user)
                reply = await subject.port.call(method, wrong)
                _refused(reply, CLEAR, "a history with more items than times", rules)


def _misaligned(user: common_pb2.UserFeatures) -> Sequence[common_pb2.UserFeatures]:
    longer = common_pb2.UserFeatures.FromString(user.SerializeToString())
    longer.history_item_ids.append("one-more")
    untimed = common_pb2.UserFeatures(
        user_id=user.user_id, history_item_ids=["a", "b"], history_times_unix_s=[math.floor(1e9)]
    )
    return longer, untimed


CHECK = Check(
    id="contract",
    title="Speaks the contract",
    measures="Describe is complete, constant and as model.toml says; lengths, limits, ids and "
    "versions of answers; one scale of Retrieve and Score (within 1e-4); a monotone calibration in "
    "[0, 1]; UNIMPLEMENTED and INVALID_ARGUMENT where they belong, no traceback. No rule broken.",
    why="The mesh counts an answer against the contract as an error, and the model as missing.",
    run=contract,
)
