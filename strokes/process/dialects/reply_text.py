"""A reply as text: what is left of it after thinking and markup, and its sentences. :mod:`replies` says what they mean.

Linear in any text: every run in a pattern is bounded, or ends where the pattern does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import reply_words as known

# A step is this long at most, in characters; of a reply, this much is read. A reply is 64 tokens long.
LONGEST_STEP, LONGEST_REPLY = 400, 4000

_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def one_line(text: str) -> str:
    """The text on one line: white space and control characters are single spaces, none at the ends."""
    return _BLANKS.sub(" ", text).strip()


# Soft hyphens, blanks of no width, marks of writing direction.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]+")


def visible(text: str) -> str:
    """The text without characters that nobody sees."""
    return _INVISIBLE.sub("", text)


_THINK = re.compile("<think>", re.IGNORECASE)
_THINK_END = re.compile("</think>", re.IGNORECASE)


def after_thinking(text: str) -> tuple[str, bool]:
    """What follows the last ``</think>``, as far as it is read, and whether that is all there is to read.

    It is not where the reply is longer than LONGEST_REPLY, nor where a ``<think>`` follows that is never closed.
    """
    start = 0
    for tag in _THINK_END.finditer(text):
        start = tag.end()
    opened = _THINK.search(text, start)
    said = text[start : opened.start() if opened else len(text)].strip()
    return said[:LONGEST_REPLY], not opened and len(said) <= LONGEST_REPLY


# Chat marks, tags such as <answer>, fences.
_MARKUP = re.compile(r"<[/|]?[A-Za-z_]{1,20}[|/]?>|\[/?INST\]|^[ \t]{0,8}```[\w-]{0,20}[ \t]{0,8}$|```", re.MULTILINE)
_EMPHASIS = re.compile(r"\*{1,9}(?=\S)|(?<=\S)\*{1,9}|(?<!\w)_{1,3}(?=\w)|(?<=\w)_{1,3}(?!\w)|~~")
_ROLE = re.compile(r"\W{0,4}(?:assistant|user|human|system|model|ai|bot)\W{0,4}", re.IGNORECASE)
_BULLET = r"[-*•·●▪◦‣–—+>#\u2600-\u27bf\U0001f000-\U0001faff\ufe0f]{1,6}(?:[ \t]\[[ xX]?\])?[ \t]+"
_NUMBER = r"[(\[]?(?:\d{1,2}|[A-Za-z]|[ivx]{2,4})[)\]]|\d{1,2}[.:、](?!\d)|(?:[a-hA-H]|[ivx]{1,4})\.(?=[ \t])|[①-⑳]"
# The mark of a list's item, a quoted line or a heading.
MARK = re.compile(rf"[ \t]*(?:{_BULLET}|(?:{_NUMBER})[ \t]*)")
_COUNTED = re.compile(r"(?:^|(?<=\s))[(\[]?(\d{1,2})[.)\]][ \t]+(?=\S)")
_STAR = re.compile(r"[ \t]*\*[ \t]")


def without_markup(text: str) -> str:
    return _MARKUP.sub("\n", text)


def sentences(text: str) -> list[str]:
    """The sentences of a reply without markup, in order; a line break ends one, and so does an item of a list."""
    lines = [line for line in text.splitlines() if one_line(line) and not _ROLE.fullmatch(line)]
    return [sentence for line in lines for item in _items(line) for sentence in _split(item)]


def _items(line: str) -> list[str]:
    """A line without emphasis, divided where a list on one line has its items: at numbers from 1 up, or at bullets."""
    line = _EMPHASIS.sub("", _STAR.sub("• ", line, count=1) if _STAR.match(line) else line)
    cuts = [bullet.start() for bullet in re.finditer("• ", line)]
    expected = 1
    for mark in _COUNTED.finditer(line):
        starts = expected > 1 or not mark.start() or line[: mark.start()].rstrip().endswith((":", ".", "!"))
        if int(mark[1]) == expected and starts:
            cuts.append(mark.start())
            expected += 1
    cuts = sorted({0, *cuts})
    return [item for a, b in zip(cuts, [*cuts[1:], len(line)], strict=True) if (item := line[a:b].strip())]


_STOP = re.compile(r"[.!?…]{1,9}[\"'”’»)\]`]{0,4}(?=\s|$)|[。！？]{1,9}[」』”’»)]{0,4}")
_STOPPED = re.compile(r"[.!?…。！？:：][\"'”’»」』)\]`]{0,4}$")
# A quotation inside a sentence, such as the words on a sign.
_QUOTATION = re.compile(
    r"(?<=[\w,] )(?:\"[^\"]{1,200}\"|“[^”]{1,200}”|«[^»]{1,200}»|'[^']{1,80}'|‘[^’]{1,80}’)(?= \w|[.,;]|$)"
)


def is_stopped(sentence: str) -> bool:
    """Whether a sentence ends as sentences do, so that a cut-off reply was not cut off in it."""
    return _STOPPED.search(sentence) is not None


def _split(line: str) -> Iterator[str]:
    """Sentences of a line. The stop of an abbreviation, of a number or inside a quotation does not end one."""
    quotations = [quotation.span() for quotation in _QUOTATION.finditer(line)]
    start = at = 0
    for stop in _STOP.finditer(line):
        while at < len(quotations) and quotations[at][1] < stop.end():
            at += 1
        small = line[stop.end() : stop.end() + 2].strip().islower()
        quoted = at < len(quotations) and quotations[at][0] < stop.start()
        if quoted and (small or stop.end() < quotations[at][1]):
            continue
        if small and stop[0].startswith(("...", "…")):
            continue
        if stop[0] == "." and _is_abbreviated(line[start : stop.start()], line[stop.end() : stop.end() + 2].strip()):
            continue
        yield line[start : stop.end()].strip()
        start = stop.end()
    if rest := line[start:].strip():
        yield rest


_LAST_WORD = re.compile(r"\S{1,20}$")
_ONLY_A_NUMBER = re.compile(rf"\W*(?:{known.STEP} )?\d{{1,2}}", re.IGNORECASE)


def _is_abbreviated(before: str, following: str) -> bool:
    """Whether a stop after ``before`` is that of an abbreviation, an initial, or the number of an item or step."""
    last = _LAST_WORD.search(before[-20:])
    word = last[0].lstrip("(\"'“") if last else ""
    if word.lower() in known.ABBREVIATIONS:
        return following != ""
    if word.lower() in known.SOFT_ABBREVIATIONS:
        return following.islower()
    if word in ("No", "no"):
        return following.isdigit()
    if len(word) == 1 and word.isalpha():
        return word.isupper() and following.isupper()
    return len(before) < 40 and _ONLY_A_NUMBER.fullmatch(before) is not None


_PAIRS = {
    '"': '"',
    "`": "`",
    "'": "'",
    "‘": "’",
    "“": "”",
    "„": "“",
    "«": "»",
    "»": "«",
    "‹": "›",
    "「": "」",
    "『": "』",
}
_PAIRS |= {"(": ")", "[": "]", "{": "}"}
_OPENING = {closing: opening for opening, closing in _PAIRS.items()} | {"”": "“"}
_SINGLE = re.compile(r"['’](?!\w)")


def unquoted(text: str) -> str:
    """Without quotation marks or brackets around the whole, or around one end and without their other half."""
    text = text.strip()
    while text and text[0] in _PAIRS:
        at = _closing(text)
        if at > 0 and text[at + 1 :].strip(" .!,;:。`\"'”’»"):
            break
        text = (text[1:at] + text[at + 1 :] if at > 0 else text[1:]).strip()
    while text and text[-1] in _OPENING and text[-1] not in "')]}":
        opening = _OPENING[text[-1]]
        if opening in text[:-1] and (opening != text[-1] or text.count(opening) % 2 == 0):
            break
        text = text[:-1].strip()
    return text


def _closing(text: str) -> int:
    """Where the quotation that begins a text ends, or -1. Of single marks, those before the last may be apostrophes."""
    if text[0] not in "'‘":
        return text.find(_PAIRS[text[0]], 1)
    end = len(text.rstrip(" .!,;"))
    if text[end - 1] in "'’":
        return end - 1
    found = _SINGLE.search(text, 1)
    return found.start() if found else -1


def shortened(text: str) -> str:
    """One line of at most LONGEST_STEP characters: cut at the end of a sentence, else of a word, where there is one."""
    text = one_line(text)
    if len(text) <= LONGEST_STEP:
        return text
    head = text[: LONGEST_STEP + 1]
    end = max((stop.end() for stop in _STOP.finditer(head[:-1])), default=0) or head.rfind(" ")
    return head[:end].rstrip() if end > 0 else head[:-1]


_ALWAYS_SHORT = (("’", "'"), ("cannot", "can not"), ("can't", "can not"), ("won't", "will not"), ("let's", "let us"))
_SHORT = (("n't", " not"), ("'m", " am"), ("'re", " are"), ("'ll", " will"), ("'d", " would"), ("'ve", " have"))
_IS = re.compile(r"\b(it|that|this|there|here|what|everything|nothing|he|she|one|all)'s\b")
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def plain(text: str) -> str:
    """The words of a text: lower case, short forms written out, one space between, no punctuation."""
    text = text.lower()
    for short, long in _ALWAYS_SHORT:
        text = text.replace(short, long)
    text = _IS.sub(r"\1 is", text)
    for short, long in _SHORT:
        text = text.replace(short, long)
    return " ".join(_TOKEN.findall(text))
