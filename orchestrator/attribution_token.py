"""Attribution tokens: what a page says of itself, signed, for events to bring back.

A token ties an event to the page that showed the item, and an impression of a sponsored slot to
its campaign, without a look into any store. HMAC-SHA256 (RFC 2104), cut to 128 bits, over a
serialised :class:`~recmesh.v1.attribution_pb2.Attribution`. Users and items are in it as keyed
hashes: a token that lies in a client's log tells nobody who read what.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import DecodeError

from recmesh.storage.errors import DataError
from recmesh.storage.signing_keys import SigningKeys
from recmesh.v1 import attribution_pb2

MAC_BYTES = 16
USER_HASH_BYTES = 8
ITEM_HASH_BYTES = 4
NEITHER = 2
"""Picked a slot that both arms would have filled alike."""


class Picks(NamedTuple):
    """Who picked the slots of a page that two arms of an experiment filled in turn."""

    experiment: str
    arms: Sequence[str]
    of_slot: Sequence[int]
    """Place in ``arms`` of the one that picked each slot, in the order of the ranks; or
    :data:`NEITHER`."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a token says, and the key that opens its hashes."""

    content: attribution_pb2.Attribution
    id_key: bytes = field(repr=False)

    def hash_of(self, id_: str, size: int) -> bytes:
        """An id as this page's token holds it: another page's hash of it is another."""
        request_id = self.content.request_id
        text = f"{len(request_id)}:{request_id}{id_}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self.id_key, digest_size=size).digest()

    def is_of(self, user_id: str) -> bool:
        """Whether the page was this user's."""
        return self.content.user_hash == self.hash_of(user_id, USER_HASH_BYTES)

    def rank_of(self, item_id: str) -> int:
        """The item's rank on the page; 0: it was not on it."""
        wanted = self.hash_of(item_id, ITEM_HASH_BYTES)
        hashes = self.content.item_hashes
        for start in range(0, len(hashes), ITEM_HASH_BYTES):
            if hashes[start : start + ITEM_HASH_BYTES] == wanted:
                return self.content.first_rank + start // ITEM_HASH_BYTES
        return 0

    def campaign_at(self, rank: int) -> str:
        """The campaign that the slot counts for; empty: none."""
        return next((s.campaign_id for s in self.content.sponsored if s.rank == rank), "")

    def arms_at(self, rank: int) -> dict[str, str]:
        """Arms by experiment; of an interleaved page, the arm that picked the slot of this rank.

        A slot that both arms would have filled alike is of neither.

        Args:
            rank: 0: no slot of the page, so that an interleaved page's is of neither arm.
        """
        arms = dict(self.content.experiment_arms)
        draft, slot = self.content.draft, rank - self.content.first_rank
        if 0 <= slot < len(draft.picks) and draft.picks[slot] < len(draft.arms):
            arms[draft.experiment] = draft.arms[draft.picks[slot]]
        return arms


class AttributionTokens:
    """Issues tokens of pages and verifies what comes back."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = [(key, hmac.digest(key, b"ids", "sha256")) for key in keys.keys]

    def keys_for(self, purpose: bytes) -> list[bytes]:
        """Keys for what else is signed, the one that signs first; other purposes get others."""
        return [hmac.digest(key, purpose, "sha256") for key, _ in self._keys]

    def pseudonym(self, user_id: str) -> str:
        """What traces call a user: a keyed hash, the same for as long as the key signs."""
        key = self.keys_for(b"pseudonyms")[0]
        text = user_id.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=key, digest_size=USER_HASH_BYTES).hexdigest()

    def issue(
        self,
        *,
        request_id: str,
        surface: str,
        policy_version: str,
        issued_at_unix_s: int,
        user_id: str,
        item_ids: Sequence[str],
        first_rank: int = 1,
        campaigns: Mapping[int, str] | None = None,
        arms: Mapping[str, str] | None = None,
        picks: Picks | None = None,
    ) -> str:
        """The token of a page as callers see it: base64url without padding.

        Args:
            request_id: that the page answers.
            surface: of the page.
            policy_version: that made it.
            issued_at_unix_s: seconds since the Unix epoch.
            user_id: whose page it is.
            item_ids: in the order of their ranks.
            first_rank: of the first item.
            campaigns: by rank, of the slots that are paid for.
            arms: by experiment, of those that the page took part in.
            picks: who picked the slots, where two arms did.
        """
        key, id_key = self._keys[0]
        content = attribution_pb2.Attribution(
            request_id=request_id,
            surface=surface,
            policy_version=policy_version,
            issued_at_unix_s=issued_at_unix_s,
            first_rank=first_rank,
            experiment_arms=arms,
        )
        page = Attribution(content, id_key)
        content.user_hash = page.hash_of(user_id, USER_HASH_BYTES)
        content.item_hashes = b"".join(page.hash_of(item, ITEM_HASH_BYTES) for item in item_ids)
        for rank, campaign_id in (campaigns or {}).items():
            content.sponsored.add(rank=rank, campaign_id=campaign_id)
        if picks is not None:
            content.draft.experiment = picks.experiment
            content.draft.arms.extend(picks.arms)
            content.draft.picks = bytes(picks.of_slot)
        serialised = content.SerializeToString()
        return _encoded(_mac(key, serialised) + serialised)

    def verified(self, token: str) -> Attribution:
        """What a token says.

        Raises:
            DataError: none of the keys signed it as it is.
        """
        try:
            signed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            signed = b""
        mac, content = signed[:MAC_BYTES], signed[MAC_BYTES:]
        id_keys = [ids for key, ids in self._keys if hmac.compare_digest(mac, _mac(key, content))]
        # Decoding passes over foreign characters and spare bits: only one spelling is the token.
        if not id_keys or _encoded(signed) != token:
            raise DataError("attribution token was not issued here")
        try:
            return Attribution(attribution_pb2.Attribution.FromString(content), id_keys[0])
        except DecodeError as error:
            raise DataError("attribution token was not issued here") from error


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")[:MAC_BYTES]


def _encoded(signed: bytes) -> str:
    return base64.urlsafe_b64encode(signed).decode().rstrip("=")
