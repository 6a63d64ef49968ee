"""How a checkpoint is spoken to: its dialect, the profile that the dialect and the checkpoint make together, and the check
that the tokenizer can say what the dialect needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import StrokesError
from ...process.dialects.choice import AUTO, find_dialect, guessed
from ...process.dialects.protocol import Dialect
from ...process.settings import Profile
from ..network.config import ResizeRule
from .companions import Places
from .recognise import Recognised
from .schema import ProfilePart, checked, profile_of, vit_rule_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Speech:
    """A checkpoint's dialect, its profile, and the transform of pictures for its vision model."""

    dialect: Dialect
    profile: Profile
    vit_rule: ResizeRule


def dialect_name(found: Recognised, name: str = AUTO) -> str:
    """The name of the dialect behind ``name``, which may be "auto"."""
    names = f"{found.weights.parent.name}/{found.weights.stem}"  # a single file bears the model's name itself
    return guessed(found.given.strokes.dialect, names) if name == AUTO else name


def speech_of(found: Recognised, name: str = AUTO, places: Places | None = None) -> Speech:
    """The dialect called ``name`` for a checkpoint, and the profile: config.json's key ``strokes`` over the dialect's own.

    Dialect files are looked for in the checkpoint's folder, in ``dialects`` beside that, and in ``places``. Raises
    StrokesError as :func:`find_dialect`, and for a setting out of range.
    """
    folder = found.weights.parent
    beside: tuple[Path, ...] = (folder / "dialects", folder.parent / "dialects", *(places.dialects if places else ()))
    dialect = find_dialect(dialect_name(found, name), beside, folder)
    checked(ProfilePart, dialect.profile, f"the profile of the dialect {dialect.name}")
    given = found.given.strokes.model_dump(exclude_unset=True)
    where = f"{folder / 'config.json'} with the dialect {dialect.name}"
    part = checked(ProfilePart, _over(dialect.profile, given), where)
    profile = profile_of(part, found.profile.name, found.config, where)
    return Speech(dialect, profile, vit_rule_of(part, found.config, where))


def _over(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with what is ``given``, objects key by key."""
    return {
        **base,
        **{k: _over(base.get(k) or {}, v) if isinstance(v, Mapping) else v for k, v in given.items()},
    }


def check_answers(dialect: Dialect, tokenizer: Tokenizer, where: Path) -> None:
    """Raise StrokesError where a tokenizer has no token for a word of an answer whose probability the dialect needs."""
    unknown = tokenizer.token_to_id("<unk>")
    for spelling in (spelling for each in dialect.answers for spellings in each.values() for spelling in spellings):
        ids = tokenizer.encode(spelling, add_special_tokens=False).ids
        if spelling and (not ids or (unknown is not None and unknown in ids)):
            raise StrokesError(
                f"{where}: the tokenizer has no token for {spelling.strip()!r}, which the dialect {dialect.name} asks for: "
                "choose another dialect"
            )
