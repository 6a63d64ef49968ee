"""Runs under ComfyUI's own Python: its real executor in process, one JSON request a line on standard input.

Standard output answers a line each; everything else goes to standard error. ``python driver.py COMFYUI BASE OPTIONS``.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import importlib
import json
import os
import sys
import time
from pathlib import Path

comfy_root, base, *options = sys.argv[1:]
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.argv = ["main.py", "--cpu", "--base-directory", base, "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
sys.argv += options
os.chdir(comfy_root)
sys.path.insert(0, comfy_root)

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.cli_args  # noqa: E402
import comfy.model_management as memory  # noqa: E402
import execution  # noqa: E402
import folder_paths  # noqa: E402
import server  # noqa: E402
import torch  # noqa: E402
from kinds_probe import opened, quantise, velocity  # noqa: E402
from probe_nodes import Anything, CompareLatents, Plain, StopAfter, Supply  # noqa: E402

import nodes  # noqa: E402

torch.set_num_threads(1)
for name in ("output", "input", "temp"):
    getattr(folder_paths, f"set_{name}_directory")(os.path.join(base, name))
PACK = os.path.join(base, "custom_nodes", "ComfyUI-Strokes")
seen: list[tuple] = []
prompt_server = server.PromptServer(asyncio.new_event_loop())
prompt_server.send_sync = lambda event, data, sid=None: seen.append((event, data, time.monotonic()))
interrupt: dict = {}
loads: list = []


def pack(name: str):
    """A module of the pack as ComfyUI loaded it."""
    return importlib.import_module(f"{PACK.replace('.', '_x_')}.{name}")


def digest(value) -> str:
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(str(tuple(value.shape)).encode() + value.contiguous().numpy().tobytes()).hexdigest()[:16]
    if isinstance(value, dict):
        return digest(value["samples"])
    return str(value)


class Report:
    """Output node: what came over its wires, as text."""

    @classmethod
    def INPUT_TYPES(cls):
        names = ("trajectory", "image", "latent", "mask", "text", "flag")
        return {"required": {}, "optional": {name: ("*",) for name in names}}

    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "report", True, "test"

    def report(self, trajectory=None, **values):
        found = {name: digest(value) for name, value in values.items() if value is not None}
        if trajectory is not None:
            found |= {
                "texts": [t.text for t in trajectory.turns if getattr(t, "text", "")],
                "pictures": [p.digest for _, p in trajectory.pictures],
                "sizes": [list(p.image.size) for _, p in trajectory.pictures],
                "latents": [
                    hashlib.sha256(p.latents.tobytes()).hexdigest()[:16] if p.latents is not None else None
                    for _, p in trajectory.pictures
                ],
                "authors": [t.origin.author for t in trajectory.turns],
                "rounds": len(trajectory.rounds),
                "ended": trajectory.ended,
            }
        for name in ("image", "mask"):
            if values.get(name) is not None:
                found[f"{name} shape"] = list(values[name].shape)
                found[f"{name} mean"] = float(values[name].mean())
        return {"ui": {"report": [found]}}


class Unload:
    """Hands a trajectory on and throws every model out of memory."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"trajectory": ("STROKES_TRAJECTORY",), "model": ("STROKES_MODEL",)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("STROKES_TRAJECTORY",), "go", "test"

    def go(self, trajectory, model):
        memory.unload_all_models()
        assert model.painter.prefix_cache.nbytes == 0
        return (trajectory,)


class Reopen:
    """A finished work as if the model had wanted another round."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"trajectory": ("STROKES_TRAJECTORY",)}}

    RETURN_TYPES, FUNCTION, CATEGORY = ("STROKES_TRAJECTORY",), "go", "test"

    def go(self, trajectory):
        replace = pack("strokes.process.trajectory").replace
        last = trajectory.rounds[-1]
        refinement = replace(last.refinement, ended=False)
        return (replace(trajectory, rounds=(*trajectory.rounds[:-1], replace(last, refinement=refinement))),)


TEST_NODES = {
    "TestReport": Report, "TestUnload": Unload, "TestPlain": Plain, "TestSupply": Supply, "TestStopAfter": StopAfter,
    "TestCompareLatents": CompareLatents, "TestReopen": Reopen,
    "TestAnything": Anything,
}  # fmt: skip
executors: dict[str, execution.PromptExecutor] = {}


def executor(cache: str) -> execution.PromptExecutor:
    kinds = {
        "classic": (execution.CacheType.CLASSIC, {}),
        # The default: everything that a run does not use is dropped, unless so much memory is free.
        "ram": (execution.CacheType.RAM_PRESSURE, {"ram": 2.0, "ram_inactive": 128.0}),
        "lru": (execution.CacheType.LRU, {"lru": 100}),
        "none": (execution.CacheType.NONE, {}),
    }
    comfy.cli_args.args.cache_none = cache == "none"
    if cache not in executors:
        kind, arguments = kinds[cache]
        executors[cache] = execution.PromptExecutor(
            prompt_server, cache_type=kind, cache_args={"lru": 0, "ram": 0.0, "ram_inactive": 0.0, **arguments}
        )
    return executors[cache]


def run(prompt: dict, cache: str = "ram", stop_in: str = "", after_calls: int = 0) -> dict:
    """Run a graph; ``stop_in`` interrupts in a node of that class (or id) after so many model calls."""
    seen.clear()
    valid = asyncio.run(execution.validate_prompt("p", prompt, None))
    errors = [(node, e["message"], e["details"]) for node, found in valid[3].items() for e in found["errors"]]
    if not valid[0]:
        return {"invalid": errors or [("", valid[1]["message"], valid[1].get("details", ""))]}
    interrupt.clear()
    interrupt.update(stop_in=stop_in, after=after_calls, since=None)
    began = time.monotonic()
    executor(cache).execute(prompt, "p", {"client_id": "c"}, valid[2])
    ran = [data["node"] for event, data, _ in seen if event == "executing" and data["node"]]
    started = list(dict.fromkeys(ran))  # a loop is staged again for its result
    reports = [r for e, d, _ in seen if e == "executed" for r in ((d["output"] or {}).get("report") or [])]
    failed = [d for e, d, _ in seen if e == "execution_error"]
    payloads = [
        {"node": d["node"], "display": d["display_node"], **{k: v for k, v in d["output"].items() if k != "report"}}
        for e, d, _ in seen
        if e == "executed" and d["output"]
    ]
    return {
        "invalid": errors,  # outputs that are in order run all the same
        "ran": started,
        "reports": reports,
        "payloads": payloads,
        "error": failed[0]["exception_message"].strip() if failed else None,
        "error node": failed[0]["node_id"] if failed else None,
        "interrupted": any(e == "execution_interrupted" for e, *_ in seen),
        "calls after the flag": interrupt["since"],
        "seconds": time.monotonic() - began,
    }


def watch_calls() -> None:
    """Count model calls (whole passes through the decoder) and raise ComfyUI's interrupt flag where a test asks."""
    model = pack("strokes.bagel.network.model").Bagel
    plain = model.decode_rows

    def counted(self, *rest):
        if interrupt.get("since") is not None:
            interrupt["since"] += 1
        result = plain(self, *rest)
        if interrupt.get("stop_in") and interrupt["stop_in"] == running_node() and interrupt["since"] is None:
            interrupt["after"] -= 1
            if interrupt["after"] <= 0:
                interrupt["since"] = 0
                memory.interrupt_current_processing()
        return result

    model.decode_rows = counted
    loader = pack("model_loader.loader")
    load = loader.load_recognised

    def counted_load(*rest, **more):
        loads.append(rest)
        return load(*rest, **more)

    loader.load_recognised = counted_load


def running_node() -> str:
    from comfy_execution.utils import get_executing_context

    context = get_executing_context()
    return context.node_id if context else ""


def alive() -> dict:
    """What of ours lives: by the kind of object, after a collection."""
    gc.collect()
    kinds = {
        "trajectories": "Trajectory", "blocks": "Block", "networks": "Bagel", "prefix caches": "PrefixCache",
        "pictures": "Picture", "autoencoders": "AutoencoderKL",
    }  # fmt: skip
    counts = dict.fromkeys(kinds, 0)
    prefix_cache_bytes = 0
    for thing in gc.get_objects():
        for kind, name in kinds.items():
            if type(thing).__name__ == name:
                counts[kind] += 1
                prefix_cache_bytes += thing.nbytes if name == "PrefixCache" else 0
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {**counts, "prefix cache bytes": prefix_cache_bytes, "resident": resident, "plain runs": Plain.runs}


def prefix_cache_counts() -> dict:
    gc.collect()
    found = [m for m in gc.get_objects() if type(m).__name__ == "PrefixCache"]
    return {"prefix caches": len(found), "bytes": sum(m.nbytes for m in found), "entries": sum(map(len, found))} | {
        name: sum(getattr(m.counts, name) for m in found) for name in ("prefilled", "reused", "decoded")
    }


def free() -> dict:
    """What POST /free with both flags does."""
    memory.unload_all_models()
    for found in executors.values():
        found.reset()
    gc.collect()
    memory.soft_empty_cache()
    return alive()


def unload() -> dict:
    memory.unload_all_models()
    return prefix_cache_counts()


def weights() -> str:
    """A digest of every weight of the networks, unpatched as after an unload."""
    memory.unload_all_models()
    found = hashlib.sha256()
    for model in [m for m in gc.get_objects() if type(m).__name__ == "Bagel"]:
        for key, tensor in sorted(model.state_dict().items()):
            found.update(key.encode() + tensor.float().numpy().tobytes())
    return found.hexdigest()


def pressure(fraction: float) -> dict:
    """Ask the language model's patcher for a share of its prefix cache, as ComfyUI does when memory runs short."""
    prefix_cache = next(m for m in gc.get_objects() if type(m).__name__ == "PrefixCache")
    owner = next(
        m.model for m in memory.current_loaded_models if getattr(m.model.model, "prefix_cache", None) is prefix_cache
    )
    freed = owner.partially_unload(owner.offload_device, int(prefix_cache.nbytes * fraction))
    weights = memory.module_size(owner.model)
    sizes = {"counted": owner.model_size(), "loaded": owner.loaded_size(), "weights": weights}
    return {"freed": freed, "bytes": prefix_cache.nbytes, **sizes}


def parity(folder: str) -> dict:
    """``strokes parity`` with ComfyUI's layers."""
    import comfy.ops

    rows = pack("strokes.bagel.parity.compare").compare_folder(Path(folder), comfy.ops.manual_cast)
    return {"compared": len(rows), "missed": [row.name for row in rows if not row.ok]}


def schemas() -> dict:
    return {
        name: kind.GET_NODE_INFO_V1() for name, kind in nodes.NODE_CLASS_MAPPINGS.items() if name.startswith("Strokes")
    }


OPERATIONS = {
    "run": run, "alive": alive, "prefix_cache": prefix_cache_counts, "free": free, "unload": unload, "pressure": pressure,
    "weights": weights, "parity": parity, "schemas": schemas,
    "loads": lambda: len(loads),
    "velocity": lambda **given: velocity(pack, **given),
    "opened": lambda **given: opened(pack, **given),
    "quantise": quantise,
    "checkpoints": lambda: pack("model_loader.folders").checkpoint_names(),
}  # fmt: skip


async def begin() -> dict:
    await nodes.init_builtin_extra_nodes()
    before, modules = time.monotonic(), set(sys.modules)
    loaded = await nodes.load_custom_node(PACK)
    heavy = {"diffusers", "transformers", "tokenizers", "accelerate"} & (set(sys.modules) - modules)
    return {"loaded": loaded, "seconds": time.monotonic() - before, "heavy": sorted(heavy)}


def main() -> None:
    state = asyncio.run(begin())
    nodes.NODE_CLASS_MAPPINGS.update(TEST_NODES)
    watch_calls()
    # Collections, and searches for what is alive, then pass over the hundred thousands of objects that ComfyUI is made of.
    gc.collect()
    gc.freeze()

    def answer(value) -> None:
        answers.write(json.dumps(value, default=str) + "\n")
        answers.flush()

    answer(state)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(OPERATIONS[request.pop("op")](**request))
        except Exception as error:
            import traceback

            traceback.print_exc()
            answer({"failed": repr(error)})


main()
