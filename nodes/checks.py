"""The types of the values on the sockets, checked in one place for every node.

ComfyUI compares the types of two sockets, not values: a constant in the API form, or a wire from a socket of any type,
brings whatever it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real
from reprlib import repr as shortened
from typing import Any, NamedTuple, TypeVar

import numpy as np
from comfy_api.latest import io
from torch import Tensor

from ..model_loader.loader import UnifiedModel
from ..strokes.errors import StrokesError
from ..strokes.process.trajectory import Trajectory
from .live import reporting

R = TypeVar("R")

# Combos whose values are looked up by the node itself, with messages of their own.
_LOOKED_UP = ("checkpoint", "dialect", "lora", "verdict")


class _Type(NamedTuple):
    """A type of ComfyUI's sockets: its name in a message, whether a value is of it, and the conversion to Python's own."""

    words: str
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_latent(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("samples"), Tensor)


_TYPES = {
    "INT": _Type("a whole number", lambda value: _is_number(value, Integral), int),
    "FLOAT": _Type("a number", lambda value: _is_number(value, Real), float),
    "BOOLEAN": _Type("true or false", lambda value: isinstance(value, bool | np.bool_), bool),
    "STRING": _Type("a text", lambda value: isinstance(value, str)),
    "COMBO": _Type("one of its options", lambda value: isinstance(value, str)),
    "IMAGE": _Type("an IMAGE", lambda value: isinstance(value, Tensor)),
    "MASK": _Type("a MASK", lambda value: isinstance(value, Tensor)),
    "LATENT": _Type("a LATENT", _is_latent),
    "STROKES_MODEL": _Type("a model from Load Unified Model", lambda value: isinstance(value, UnifiedModel)),
    "STROKES_TRAJECTORY": _Type("a trajectory", lambda value: isinstance(value, Trajectory)),
    "STROKES_LOOP": _Type("a loop from Loop Start", lambda value: isinstance(value, Trajectory)),
}


def _described(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    return f"{shortened(value)} ({type(value).__name__})"


def type_problem(node: type[io.ComfyNode], **given: Any) -> str:
    """For ``validate_inputs``: the first constant of another type than its input's, as a message; empty where none is.

    None stands for a value over a wire, which is known only when the node runs.
    """
    for socket in node.SCHEMA.inputs:
        value, kind = given.get(socket.id), _TYPES[socket.get_io_type()]
        if value is not None and not kind.accepts(value):
            return f"{socket.id}: {kind.words} was expected, {_described(value)} was given"
    return ""


def _checked(socket: Any, value: Any) -> Any:
    """The value of an ``io.Input`` in Python's own type. Raises StrokesError for another type, range or option."""
    if value is None and (socket.optional or socket.lazy):
        return None
    kind = _TYPES[socket.get_io_type()]
    words, fits = kind.words, kind.accepts(value)
    if isinstance(socket, io.Int.Input | io.Float.Input):
        words = f"{words} from {socket.min} to {socket.max}"
        fits = fits and socket.min <= value <= socket.max
    elif isinstance(socket, io.Combo.Input) and socket.id not in _LOOKED_UP:
        words = f"one of {', '.join(socket.options)}"
        fits = fits and value in socket.options
    if not fits:
        raise StrokesError(f"{socket.id}: {words} was expected, {_described(value)} was given")
    return kind.convert(value)


def checked(method: Callable[..., R]) -> Callable[..., R]:
    """Decorator of ``execute`` and ``check_lazy_status``: values that the schema does not allow are one-line errors."""

    @wraps(method)
    def with_checks(node: Any, **given: Any) -> R:
        with reporting(node.SCHEMA.display_name.removesuffix(" (Strokes)")):
            values = {s.id: _checked(s, given[s.id]) for s in node.SCHEMA.inputs if s.id in given}
        return method(node, **values)

    return with_checks
