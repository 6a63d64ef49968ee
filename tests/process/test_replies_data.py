"""The corpus of replies, `replies.jsonl`: well formed, large enough, and consistent with `replies.md`."""

import collections
import json
import re
from pathlib import Path

import pytest

LEAST, LEAST_OF_A_KIND = 340, 20
KINDS = {
    "plain",
    "preamble",
    "list",
    "label",
    "quotes",
    "think",
    "refusal",
    "other-language",
    "cut-off",
    "finished",
    "question",
    "echo",
    "babble",
    "several-sentences",
    "near-miss",
}
REASONS = {"empty", "babble", "refusal", "nothing to correct", "question", "echo", "cut off", "no instruction"}
LINES = Path(__file__).with_name("replies.jsonl").read_text(encoding="utf-8").splitlines()
REPLIES = [json.loads(line) for line in LINES]


def test_there_are_enough_of_each_kind() -> None:
    counts = collections.Counter(reply["kind"] for reply in REPLIES)
    assert set(counts) == KINDS
    assert len(REPLIES) >= LEAST
    assert min(counts.values()) >= LEAST_OF_A_KIND, counts


def test_no_reply_is_there_twice() -> None:
    assert len({reply["id"] for reply in REPLIES}) == len(REPLIES)
    assert len({(reply["asked"], reply["reply"], reply["ended"]) for reply in REPLIES}) == len(REPLIES)


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: str(reply["id"]))
def test_a_reply_is_well_formed(reply: dict[str, object]) -> None:
    assert set(reply) == {"id", "asked", "kind", "reply", "becomes", "ended"}
    assert re.fullmatch(rf"{reply['asked']}-{reply['kind']}-\d\d", str(reply["id"]))
    assert reply["asked"] in ("plan", "correction")
    assert isinstance(reply["reply"], str)
    assert isinstance(reply["ended"], bool)


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: str(reply["id"]))
def test_a_reply_becomes_one_thing(reply: dict[str, object]) -> None:
    becomes = reply["becomes"]
    assert isinstance(becomes, dict)
    [(outcome, value)] = becomes.items()
    if outcome == "step":
        assert collapsed(value), "a step is never empty"
        assert collapsed(value) in collapsed(str(reply["reply"])), "a step keeps the model's words"
    elif outcome == "finished":
        assert value is True
        assert reply["asked"] == "plan", "a correction is never finished"
    else:
        assert outcome == "unusable"
        assert value in REASONS
        assert value != "nothing to correct" or reply["asked"] == "correction"


def collapsed(text: str) -> str:
    """The words of `text`, one space between them, without the marks of emphasis."""
    return " ".join(re.sub(r"\*+|__+", "", text).split())
