"""A cache of the rounds of loops from one run to the next, as a cache provider of ComfyUI.

ComfyUI's default cache drops the results of expanded nodes when the next run begins, and with them every round but the
first. The results here live until a run of the loop does not use them, until ComfyUI drops the trajectory that the loop
began with, or until memory is short.
"""

from __future__ import annotations

import weakref
from typing import Any

import comfy.memory_management
import psutil
from comfy_api.latest import Caching
from comfy_execution.cache_provider import register_cache_provider, unregister_cache_provider

from ..strokes.process.trajectory import Trajectory

# By the id of the trajectory that a loop began with and the node id of its Loop End: loops may share a trajectory.
_kept: dict[tuple[int, str], RoundCache] = {}


class RoundCache(Caching.CacheProvider):
    """Results of the copies that Loop End ``root`` expands, by cache key. Registered with ComfyUI for one run at a time."""

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
    """Keep a reference to ``value`` until the run ends."""
    register_cache_provider(_Hold(value))


def keep_rounds(root: str, begun: Trajectory) -> None:
    """Cache the rounds of Loop End ``root`` in this run; ``begun`` is the trajectory that the loop began with."""
    key = (id(begun), root)
    if key not in _kept:
        _kept[key] = RoundCache(root)
        weakref.finalize(begun, _kept.pop, key, None).atexit = False
    register_cache_provider(_kept[key])
