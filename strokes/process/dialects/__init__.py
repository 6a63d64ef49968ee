"""Prompt formats and parsers of replies, one file a dialect."""

from __future__ import annotations

from ...errors import StrokesError
from ..painter import Profile
from .plain import PLAIN
from .protocol import Dialect
from .tags import MINIATURE, PAPER

DIALECTS: dict[str, Dialect] = {"paper": PAPER, "miniature": MINIATURE, "plain": PLAIN}


def dialect_of(profile: Profile) -> Dialect:
    """The dialect that a profile names. Raises StrokesError for an unknown one."""
    if profile.dialect not in DIALECTS:
        raise StrokesError(f"{profile.name}: unknown dialect {profile.dialect!r}; known are {', '.join(DIALECTS)}")
    return DIALECTS[profile.dialect]
