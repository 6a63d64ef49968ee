"""Rounds of a loop that the next run finds again.

ComfyUI's default cache drops what is not in the graph as it was queued as soon as the next run's first node is done, and so
every round but the first. What a loop's rounds gave is therefore kept here too: until the loop runs again and does not use
it, until ComfyUI itself lets go of the work that the loop began with, or until memory is short.
"""

from __future__ import annotations

import weakref
from typing import Any

import comfy.memory_management
import psutil
from comfy_api.latest import Caching
from comfy_execution.cache_provider import register_cache_provider, unregister_cache_provider

from ..strokes.process.trajectory import Trajectory

# By the work that a loop began with, which several loops may share, and the loop's end.
_kept: dict[tuple[int, str], RoundCache] = {}


class RoundCache(Caching.CacheProvider):
    """The results of the copies that Loop End ``root`` expands. Registered with ComfyUI for one run at a time."""

    def __init__(self, root: str):
        self.root = root
        self._values: dict[str, Caching.CacheValue] = {}
        self._used: set[str] = set()

    def should_cache(self, context: Caching.CacheContext, value: Caching.CacheValue | None = None) -> bool:
        return context.node_id.startswith(f"{self.root}.r")

    async def on_lookup(self, context: Caching.CacheContext) -> Caching.CacheValue | None:
        self._used.add(context.cache_key_hash)
        return self._values.get(context.cache_key_hash)

    async def on_store(self, context: Caching.CacheContext, value: Caching.CacheValue) -> None:
        if psutil.virtual_memory().available < comfy.memory_management.RAM_CACHE_HEADROOM:
            self._values.clear()
            return
        self._used.add(context.cache_key_hash)
        self._values[context.cache_key_hash] = value

    def on_prompt_end(self, prompt_id: str) -> None:
        self._values = {key: value for key, value in self._values.items() if key in self._used}
        self._used.clear()
        unregister_cache_provider(self)


class _Hold(Caching.CacheProvider):
    """Holds a value until the run ends; caches nothing."""

    def __init__(self, value: Any):
        self.value = value

    def should_cache(self, context: Caching.CacheContext, value: Caching.CacheValue | None = None) -> bool:
        return False

    async def on_lookup(self, context: Caching.CacheContext) -> None:
        return None

    async def on_store(self, context: Caching.CacheContext, value: Caching.CacheValue) -> None:
        pass

    def on_prompt_end(self, prompt_id: str) -> None:
        unregister_cache_provider(self)


def hold_for_this_run(value: Any) -> None:
    register_cache_provider(_Hold(value))


def keep_rounds(root: str, begun: Trajectory) -> None:
    """Look the rounds of a loop up, and keep them, until this run ends; ``begun`` is the work that the loop began with."""
    key = (id(begun), root)
    if key not in _kept:
        _kept[key] = RoundCache(root)
        weakref.finalize(begun, _kept.pop, key, None).atexit = False
    register_cache_provider(_kept[key])
