"""Rounds of a loop that the next run finds again.

ComfyUI's default cache drops what is not in the graph as it was queued as soon as the next run's first node is done, and so
every round but the first. What a loop's rounds gave is therefore kept here too, for as long as the work that the loop began
with is held by ComfyUI itself, and no longer than to the next run that does not use it.
"""

from __future__ import annotations

import weakref

from comfy_api.latest import Caching
from comfy_execution.cache_provider import register_cache_provider, unregister_cache_provider

from ..strokes.process.trajectory import Trajectory

_kept: dict[int, RoundCache] = {}


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
        self._used.add(context.cache_key_hash)
        self._values[context.cache_key_hash] = value

    def on_prompt_end(self, prompt_id: str) -> None:
        self._values = {key: value for key, value in self._values.items() if key in self._used}
        self._used.clear()
        unregister_cache_provider(self)


def keep_rounds(root: str, begun: Trajectory) -> None:
    """Look the rounds of a loop up, and keep them, until this run ends; ``begun`` is the work that the loop began with."""
    cache = _kept.get(id(begun))
    if cache is None or cache.root != root:
        cache = _kept[id(begun)] = RoundCache(root)
        weakref.finalize(begun, _forget, id(begun), weakref.ref(cache)).atexit = False
    register_cache_provider(cache)


def _forget(key: int, cache: weakref.ref[RoundCache]) -> None:
    if cache() is not None and _kept.get(key) is cache():
        del _kept[key]
