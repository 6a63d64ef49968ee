"""The real ComfyUI server as a process of its own, and a client that collects what it says about a prompt."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import websocket

TEXT, PREVIEW = 3, 4  # of the binary messages
ENDS = ("execution_success", "execution_error", "execution_interrupted")


@dataclass
class Run:
    """What came over the websocket for one prompt. ``bytes`` counts by message type; binary ones are "binary".

    ``texts`` and ``previews`` are (when, node, live text or JPEG).
    """

    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    bytes: Counter[str] = field(default_factory=Counter)
    texts: list[tuple[float, str, str]] = field(default_factory=list)
    previews: list[tuple[float, str, bytes]] = field(default_factory=list)
    history: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for name, data in self.messages if name == kind]

    @property
    def ran(self) -> list[str]:
        """Nodes in the order they started; a loop is staged again for its result and counts once."""
        return list(dict.fromkeys(data["node"] for data in self.of("executing") if data["node"]))

    @property
    def error(self) -> str:
        return "; ".join(f"{e['node_type']}: {e['exception_message']}" for e in self.of("execution_error"))


class Server:
    """``main.py --cpu`` on a free port. ``models`` is a folder of model folders beside those of ``base``."""

    def __init__(
        self, comfy: tuple[Path, Path], base: Path, models: Path | None = None, *, arguments: tuple[str, ...] = ()
    ):
        root, python = comfy
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = base / f"server-{self.port}.log"
        options = [
            "--cpu",
            "--disable-auto-launch",
            "--disable-api-nodes",
            "--listen",
            "127.0.0.1",
            "--port",
            self.port,
        ]
        options += ["--database-url", "sqlite:///:memory:", "--base-directory", base, *arguments]
        if models is not None:
            config = base / f"models-{self.port}.yaml"
            folders = "\n".join(f"  {folder.name}: {folder.name}" for folder in sorted(models.iterdir()))
            config.write_text(f"placeholders:\n  base_path: {models}\n{folders}\n")
            options += ["--extra-model-paths-config", config]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [python, root / "main.py", *map(str, options)], cwd=root, stdout=log, stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
            )  # fmt: skip
        self._wait()

    def _wait(self, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.get("system_stats")
                return
            except OSError:
                time.sleep(0.2)
        self.close()
        raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-3000:]}")

    def get(self, path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, data: Any) -> Any:
        request = Request(f"http://127.0.0.1:{self.port}/{path}", json.dumps(data).encode())
        try:
            with urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or "null")
        except HTTPError as error:
            raise RuntimeError(f"{path}: {error.read().decode()}") from error

    def run(self, prompt: dict[str, Any], seconds: float = 120) -> Run:
        """Queue a prompt and listen until it has ended. Raises RuntimeError where it is refused, TimeoutError."""
        client, run, began = uuid4().hex, Run(), time.monotonic()
        listener = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={client}", timeout=seconds)
        try:
            # As the frontend does: previews then say whose they are.
            features = {"supports_preview_metadata": True}
            listener.send(json.dumps({"type": "feature_flags", "data": features}))
            number = self.post("prompt", {"prompt": prompt, "client_id": client})["prompt_id"]
            while not run.messages or run.messages[-1][0] not in ENDS:
                if time.monotonic() - began > seconds:
                    raise TimeoutError(f"no end within {seconds} s")
                _collect(run, listener.recv(), number)
        finally:
            listener.close()
        run.seconds = time.monotonic() - began
        # The last message is sent before the entry is there.
        while number not in (found := self.get(f"history/{number}")):
            time.sleep(0.05)
        run.history = found[number]
        return run

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _collect(run: Run, message: str | bytes, number: str) -> None:
    if isinstance(message, bytes):
        run.bytes["binary"] += len(message)
        kind, length = struct.unpack(">II", message[:8])
        head, rest = message[8 : 8 + length], message[8 + length :]
        if kind == TEXT:
            run.texts.append((time.monotonic(), head.decode(), rest.decode()))
        elif kind == PREVIEW:
            run.previews.append((time.monotonic(), json.loads(head)["display_node_id"], rest))
        return
    found = json.loads(message)
    if found["data"].get("prompt_id") == number:
        run.bytes[found["type"]] += len(message)
        run.messages.append((found["type"], found["data"]))
