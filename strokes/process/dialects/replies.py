"""The free-form replies of a model that was asked in plain language what to paint, or how to correct it.

A reply is cut into sentences. What stands before a step (list marks, labels, preambles, verdicts) is removed from
each, and it is of one kind. The first that instructs is the step. The rules, and the replies they are tested on, are
``tests/process/replies.md`` and ``replies.jsonl``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from . import reply_words as known
from .reply_text import (
    LONGEST_STEP,
    MARK,
    after_thinking,
    is_stopped,
    one_line,
    plain,
    sentences,
    shortened,
    unquoted,
    visible,
    without_markup,
)

__all__ = ["Step", "one_line", "read_correction", "read_plan"]

# "fault": names what is wrong or missing. "nothing": a preamble, a verdict, an instruction that names nothing.
Kind = Literal["instructs", "fault", "finished", "refusal", "echo", "question", "describes", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step as it stands in a reply: what to paint; or finished; or why there is neither, a reason of replies.md."""

    instruction: str = ""
    finished: bool = False
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class _Sentence:
    """A sentence: ``whole``, and its ``text`` without what stands before a step."""

    whole: str
    text: str
    kind: Kind


def read_plan(text: str, ended: bool = True) -> Step:
    """What the reply says to paint next, or that nothing is left. ``ended``: it was not cut off at the token limit."""
    text = visible(text)
    said, whole = after_thinking(text)
    ended = ended and whole
    if not one_line(said):
        return Step(problem="empty" if ended or not one_line(text) else "cut off")
    said = without_markup(said)
    if _is_babble(said, ended):
        return Step(problem="babble")
    read = _without_our_steps(_read(said, ended))
    if instruction := _first_instruction(read):
        return Step(instruction=shortened(instruction))
    kinds = {sentence.kind for sentence in read}
    if "finished" in kinds and "refusal" not in kinds:
        return Step(finished=True)
    problem = next((kind for kind in ("refusal", "echo", "question") if kind in kinds), "")
    return Step(problem=problem or ("no instruction" if ended else "cut off"))


def read_correction(text: str, ended: bool = True) -> Step:
    """What the reply says to correct. It is never finished: then there is "nothing to correct"."""
    step = read_plan(text, ended)
    return Step(problem="nothing to correct") if step.finished else step


def _is_babble(text: str, ended: bool) -> bool:
    """Whether there are no letters, one or two words or one letter over and over, or only words that name nothing.

    Few words that name nothing may also be the start of a sentence that was cut off.
    """
    words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text.lower())
    different, letters = len(set(words)), "".join(words)
    return (
        not words
        or (len(words) >= 4 and different == 1)
        or (len(words) >= 8 and different == 2)
        or (len(letters) >= 4 and len(set(letters)) == 1)
        or (all(word in known.EMPTY_WORDS for word in words) and (ended or len(words) >= 4))
    )


def _read(text: str, ended: bool) -> list[_Sentence]:
    """The sentences of a reply. Of one that was cut off, so was the last sentence, unless it has its stop."""
    wholes, read = sentences(text), []
    for i, whole in enumerate(wholes):
        cut = not ended and i == len(wholes) - 1 and not is_stopped(whole)
        bare = unquoted(_without_leads(whole))
        read.append(_Sentence(whole=whole, text=bare, kind=_kind(whole, bare, cut)))
    return read


def _without_our_steps(read: list[_Sentence]) -> list[_Sentence]:
    """Without the steps that we told the model of, where it repeats our question from there on."""
    echoes = [i for i, sentence in enumerate(read) if sentence.kind == "echo"]
    for i, following in zip(echoes, echoes[1:], strict=False):
        if known.ECHO_OF_STEPS.search(plain(read[i].whole)):
            return read[: i + 1] + read[following:]
    return read


def _first_instruction(read: Sequence[_Sentence]) -> str:
    """The first sentence that instructs, else the first that names a fault.

    An instruction about a pronoun is read with the sentence before it.
    """
    for i, sentence in enumerate(read):
        if sentence.kind == "instructs":
            before = read[i - 1] if i and _has_pronoun(sentence.text) else sentence
            told = before.kind in ("describes", "fault", "finished", "question")
            return f"{before.text} {sentence.text}" if told else sentence.text
    return next((sentence.text for sentence in read if sentence.kind == "fault"), "")


# ---- What stands before a step

# The longest lead-in that is looked for, in characters.
_LONGEST_LEAD = 160
_LEAD_ENDS = re.compile(r"[:：,，;；]|\s[-–—]{1,2}(?=\s)|—")
_IN_BRACKETS = re.compile(r"[\[(<【]([^\])>】]{1,40})[\])>】][ \t]*[:：-]?[ \t]*")
_IS_TO = re.compile(
    r"((?:[\w'’]+\s){0,7}[\w'’]+)\s(?:is|are|(?:should|would|will|must|could) be)"
    r"(?:\s+to(?=\s+\w)|\s+(?=[\"“'‘«`]|an?\s|the\s|\w+ing\s)|[:：]|\s*$)\s*",
    re.IGNORECASE,
)
# After "Now" or "Next" without a comma, what shows that these are words of order.
_GOES_ON_WITH = ("we ", "i ", "you ", "let us ", "please ", "a ", "an ", "the ")
# "You're right, but", "I'm sorry, but"
_OF_US = ("i ", "you ")
_BUT = re.compile(r"\s*but\s+", re.IGNORECASE)


def _without_leads(text: str) -> str:
    """A sentence without list marks, labels, lead-ins, verdicts and words of order before its step."""
    before = None
    while text and text != before:
        before, text = text, text.lstrip()
        in_brackets = _IN_BRACKETS.match(text)
        if mark := MARK.match(text) or known.STEP_LABEL.match(text) or known.LEAD_ABROAD.match(text):
            text = text[mark.end() :]
        elif in_brackets and not _names(plain(in_brackets[1]).split()):
            text = text[in_brackets.end() :]
        else:
            bare = unquoted(text)
            text = bare if bare[:1] != text[:1] else _without_lead(text)
    return text


def _without_lead(text: str) -> str:
    for end in _LEAD_ENDS.finditer(text, 0, _LONGEST_LEAD):
        head, rest = text[: end.start()], text[end.end() :]
        is_time = end[0] == ":" and rest[:1].isdigit()
        but = _BUT.match(rest)
        if not rest.strip() or (but and _is_statement(plain(head).split()) and not plain(head).startswith(_OF_US)):
            break
        if not is_time and _is_lead(plain(head), rest, end[0].strip()):
            return rest[but.end() :] if but else rest
    if (lead := _IS_TO.match(text)) and _names_the_step(plain(lead[1]).split()) and lead.end() < len(text):
        return text[lead.end() :]
    first, _, rest = text.partition(" ")
    following = plain(rest[:80])
    if first.lower() in known.ORDER and (_begins_imperative(following) or following.startswith(_GOES_ON_WITH)):
        return rest
    return text


def _is_lead(head: str, rest: str, end: str) -> bool:
    """Whether a clause before ``rest`` is dropped: it names nothing; or it only says what is done or right, its ``end`` is
    no comma, and an instruction follows."""
    words = head.split()
    if not _names(words):
        return not words or words[0] not in known.VERBS or words[0] in known.LABEL_VERBS
    if end in (",", "，") or not (known.DONE.match(head) or _is_finished(head)):
        return False
    if known.MODAL.search(head) or known.FAULT.search(head) or _begins_imperative(head):
        return False
    rest = rest[:LONGEST_STEP]
    following = plain(rest)
    return _instructs(rest, following) or known.MODAL.search(following) is not None


def _names_the_step(words: Sequence[str]) -> bool:
    """Whether these words are about the step and nothing in the picture: "the next thing to paint"."""
    return not _names(words, known.STEP_NOUNS) and any(word in known.STEP_NOUNS for word in words)


# ---- What a sentence is


def _kind(whole: str, bare: str, cut: bool) -> Kind:
    """What a sentence is: ``whole`` as it stands, ``bare`` without what stands before its step."""
    said, words = plain(whole), plain(bare)
    asks = bare.rstrip(" \"'”’»`)").endswith(("?", "？")) or known.QUESTION_ABROAD.search(words) is not None
    instructs = _instructs(bare, words)
    if not (asks or instructs) and _refuses(words):
        return "refusal"
    repeats_steps = known.ECHO_OF_STEPS.search(said)
    if repeats_steps or known.ECHO.search(said):
        # Behind a condition of ours may stand the answer.
        answer = "echo" if repeats_steps or words == said else _kind(bare, bare, cut)
        return answer if answer in ("instructs", "fault") else "echo"
    if not words:
        return "nothing"
    if asks or known.ASKS.match(words) or known.ASKS_ABROAD.match(words) or (cut and known.QUESTION_START.match(words)):
        return "question"
    if _is_finished(words) and not _goes_on(bare):
        return "finished"
    if instructs:
        return "instructs" if _names_a_thing(words.split(), cut) or _has_pronoun(bare) else "nothing"
    if known.FINISHED_ABROAD.search(words):
        return "finished"
    return _kind_of_statement(words, cut) if _names(words.split()) else "nothing"


def _refuses(text: str) -> bool:
    """Whether a sentence says that the model cannot or will not, and not, behind a "but", what it can."""
    if known.REFUSAL_ABROAD.search(text):
        return True
    rest = text.partition(" but ")[2]
    return known.REFUSAL.search(text) is not None and (
        not known.MODAL.search(rest) or known.REFUSAL.search(rest) is not None
    )


def _kind_of_statement(text: str, cut: bool) -> Kind:
    """What a sentence without an imperative is: what ought to be, a fault, a description, or the name of a thing."""
    words = text.split()
    explains = known.EXPLAINS.match(text)
    modal = known.MODAL.search(text)
    if modal and not explains:
        return "describes" if cut and not _names(text[modal.end() :].split()) else "instructs"
    if known.FAULT.search(text) or known.FAULT_ABROAD.search(text):
        return "fault"
    if known.COURTESY.match(text):
        return "nothing"
    if explains or known.DESCRIBES_ABROAD.search(text) or _is_statement(words):
        return "describes"
    # Cut off, "The moon" may be the start of any sentence.
    return "nothing" if cut and (words[0] == "the" or not _names_a_thing(words, cut)) else "instructs"


def _is_finished(text: str) -> bool:
    """Whether a sentence says, in any wording, that nothing is left to paint or to correct."""
    if text in known.FINISHED_ALONE:
        return True
    if known.CONTRAST.search(text):
        return False
    if known.FINISHED.search(text):
        return True
    if known.NOT_YET.search(text) or known.MODAL.search(text):
        return False
    if start := known.FINISHED_START.match(text):
        return not _names(text[start.end() :].split())
    return known.FINISHED_ALL.match(text) is not None


def _is_statement(words: Sequence[str]) -> bool:
    """Whether there is a pronoun in front or a finite verb before any relative pronoun: if not, these name a thing."""
    if words and words[0] in known.SUBJECTS:
        return True
    for i, word in enumerate(words):
        if word in known.RELATIVES:
            return False
        if word in known.FINITE_VERBS and (i or word in known.FINITE_STARTS):
            return True
    return False


def _names(words: Sequence[str], also_nothing: frozenset[str] = frozenset()) -> bool:
    """Whether one of the words names something that can be in a picture."""
    nothing = (known.TALK, known.EMPTY_WORDS, also_nothing)
    return any(
        not word.isdigit()
        and not any(word in names for names in nothing)
        and not ("\u3040" <= word[0] <= "\u9fff" and len(known.TALK_ABROAD.sub("", word)) < 2)
        for word in words
    )


def _names_a_thing(words: Sequence[str], cut: bool) -> bool:
    """Whether an instruction names a thing. Where it was cut off, a verb and adjectives alone are not enough."""
    if cut:
        return _names([word for word in words if word not in known.VERBS and word not in known.ADJECTIVES])
    if words[0] not in known.VERBS:
        return _names(words)
    return any(word not in known.CANVAS and word not in known.EMPTY_WORDS for word in words[1:])


# ---- Imperatives

_CLAUSE_ENDS = re.compile(r"[,;:]\s|\s[-–—]{1,2}\s|—|\s(?:but|so|then|therefore)\s")


def _instructs(text: str, words: str) -> bool:
    """Whether a sentence or a later clause of it begins with an imperative; ``words``: its plain words."""
    return _begins_imperative(words) or _goes_on(text)


def _goes_on(text: str) -> bool:
    """Whether a clause after the first begins with an imperative."""
    for end in _CLAUSE_ENDS.finditer(text, 0, LONGEST_STEP):
        words = _from_verb(plain(text[end.end() : end.end() + 80]))
        if len(words) > 1 and words[0] in known.VERBS:
            return words[0] not in known.AMBIGUOUS or words[1] in known.ARTICLES
    return False


def _begins_imperative(text: str) -> bool:
    """Whether the first word is a verb of painting, or any other word that can be a verb, with an article behind it."""
    words = _from_verb(text)
    if words and words[0] in known.VERBS:
        return len(words) < 2 or words[1] not in ("is", "are", "was", "were", "has")
    return len(words) > 1 and words[1] in known.ARTICLES and words[0].isalpha() and _can_be_verb(words[0])


def _from_verb(text: str) -> list[str]:
    """The words from the first that can be an imperative on: polite words and adverbs before it are passed over."""
    words = text[:LONGEST_STEP].split()
    passed = (i for i, word in enumerate(words) if word not in known.POLITE and not word.endswith("ly"))
    return words[next(passed, len(words)) :]


def _can_be_verb(word: str) -> bool:
    return word not in known.NOT_VERBS and word not in known.TALK and not word.endswith(("s", "ing", "ed", "ly"))


def _has_pronoun(text: str) -> bool:
    """Whether an instruction is about a pronoun, so that it says nothing without the sentence before it."""
    words = _from_verb(plain(text))
    if not words or words[0] in known.PRONOUN_SUBJECTS:
        return bool(words)
    return (
        words[1:2] != [] and words[1] in known.PRONOUN_OBJECTS and (words[0] in known.VERBS or _can_be_verb(words[0]))
    )
