"""What a page signs is believed; nothing else is."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmesh.orchestrator.attribution_token import Attribution, AttributionTokens, Picks
from recmesh.storage.errors import ConfigurationError, DataError
from recmesh.storage.signing_keys import SigningKeys

OLD, NEW, FOREIGN = (bytes([n]) * 32 for n in (1, 2, 3))
TOKENS = AttributionTokens(SigningKeys((OLD,)))


def issue(tokens: AttributionTokens = TOKENS, **fields: object) -> str:
    page: dict[str, object] = {
        "request_id": "r1",
        "surface": "feed",
        "policy_version": "p1",
        "issued_at_unix_s": 1_760_000_000,
        "user_id": "reader",
        "item_ids": ["i1", "i2", "i3"],
        "first_rank": 11,
        "campaigns": {12: "campaign-x"},
    }
    return tokens.issue(**(page | fields))  # type: ignore[arg-type]


def test_a_token_says_what_the_page_was() -> None:
    page = TOKENS.verified(issue())
    content = page.content
    assert (content.request_id, content.surface, content.policy_version) == ("r1", "feed", "p1")
    assert content.issued_at_unix_s == 1_760_000_000
    assert page.is_of("reader")
    assert not page.is_of("colleague")
    assert [page.rank_of(item) for item in ("i1", "i2", "i3", "i4", "")] == [11, 12, 13, 0, 0]
    assert [page.campaign_at(rank) for rank in (11, 12, 13, 0)] == ["", "campaign-x", "", ""]


def test_a_token_says_which_arms_the_page_was_of() -> None:
    page = TOKENS.verified(issue(arms={"blend": "tuned", "sponsors": "none"}))
    assert page.arms_at(11) == page.arms_at(0) == {"blend": "tuned", "sponsors": "none"}
    assert TOKENS.verified(issue()).arms_at(11) == {}


def test_a_slot_of_an_interleaved_page_is_of_the_arm_that_picked_it() -> None:
    picks = Picks("draft", ("control", "tuned"), (1, 0, 1))
    page = TOKENS.verified(issue(arms={"draft": "interleaved", "x": "y"}, picks=picks))
    found = [page.arms_at(rank)["draft"] for rank in (11, 12, 13)]
    assert found == ["tuned", "control", "tuned"]
    assert page.arms_at(0) == page.arms_at(14) == {"draft": "interleaved", "x": "y"}


def test_a_token_names_neither_user_nor_items() -> None:
    content = base64.urlsafe_b64decode(issue() + "==")
    assert b"reader" not in content
    assert b"i1" not in content
    other = TOKENS.verified(issue(request_id="r2")).content
    assert other.user_hash != TOKENS.verified(issue()).content.user_hash


@pytest.mark.parametrize("size", [10, 100])
def test_a_pages_token_fits_an_event(size: int) -> None:
    campaigns = {rank: f"campaign-{rank:05}" for rank in range(1, size + 1, 4)}
    token = issue(item_ids=[f"i{n}" for n in range(size)], first_rank=1, campaigns=campaigns)
    assert len(token) < 200 + 15 * size


@given(st.data())
def test_any_altered_character_is_refused(data: st.DataObject) -> None:
    token = issue(item_ids=data.draw(st.lists(st.text(max_size=5), max_size=4)))
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda c: c != token[at]))
    with pytest.raises(DataError, match="not issued here"):
        TOKENS.verified(token[:at] + other + token[at + 1 :])


@given(st.data())
def test_any_altered_bit_is_refused(data: st.DataObject) -> None:
    signed = bytearray(base64.urlsafe_b64decode(issue() + "=" * (-len(issue()) % 4)))
    signed[data.draw(st.integers(0, len(signed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DataError, match="not issued here"):
        TOKENS.verified(base64.urlsafe_b64encode(bytes(signed)).decode().rstrip("="))


@given(st.text())
def test_anything_else_is_refused(text: str) -> None:
    for token in (text, issue() + text if text else "", issue()[: len(text) % 60]):
        with pytest.raises(DataError, match="not issued here"):
            TOKENS.verified(token)


@given(
    st.lists(st.text(max_size=20), unique=True, max_size=30),
    st.text(min_size=1),
    st.text(),
    st.text(),
)
def test_every_slot_of_every_page_is_found(
    items: list[str], user: str, request_id: str, surface: str
) -> None:
    token = issue(
        item_ids=items, user_id=user, request_id=request_id, surface=surface, first_rank=1
    )
    page: Attribution = TOKENS.verified(token)
    assert page.is_of(user)
    assert page.content.surface == surface
    assert [page.rank_of(item) for item in items] == list(range(1, len(items) + 1))


def test_keys_are_replaced_without_refusing_what_the_old_one_signed() -> None:
    appended = AttributionTokens(SigningKeys((OLD, NEW)))
    moved = AttributionTokens(SigningKeys((NEW, OLD)))
    for signer in (TOKENS, appended, moved):
        for reader in (appended, moved):
            assert reader.verified(issue(signer)).rank_of("i2") == 12
    only_new = AttributionTokens(SigningKeys((NEW,)))
    assert only_new.verified(issue(moved)).is_of("reader")
    for refused in (issue(TOKENS), issue(AttributionTokens(SigningKeys((FOREIGN,))))):
        with pytest.raises(DataError):
            only_new.verified(refused)


def test_a_key_file_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    file = tmp_path / "home" / "attribution.keys"
    made = SigningKeys.load_or_make(file)
    assert SigningKeys.load_or_make(file) == SigningKeys.load(file) == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [found.name for found in file.parent.iterdir()] == ["attribution.keys"]
    assert made.keys[0].hex() not in repr(made)
    assert SigningKeys.load_or_make(tmp_path / "other").fingerprint != made.fingerprint
    with file.open("a") as stream:
        stream.write(f"{NEW.hex()}\n")
    assert SigningKeys.load(file).keys == (*made.keys, NEW)


@pytest.mark.parametrize("text", ["", "\n", "not hex", "abcd", "é", f"{OLD.hex()}\nab"])
def test_a_file_that_holds_no_keys_is_refused_with_the_fix(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="openssl rand"):
        SigningKeys.load(file)


def test_no_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        SigningKeys.load(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="at least one"):
        SigningKeys(())
