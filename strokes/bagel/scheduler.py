"""Many painting processes at once, so that their model calls go through the network as batched.

A job is ordinary code that uses a painter. Each has a thread of its own, but only one thread of all runs at any time: a
job goes on until it needs the network, hands in a request and waits. Once all wait, the most frequent kind of request is
answered as one batch, and the jobs that asked go on, one after the other. Threads stand in for coroutines here, which
the process would have to be written for: nothing depends on their timing, and jobs may share what they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .engine.batched_runner import BatchedRunner
from .engine.prefix import Block, Segment
from .engine.prefix_cache import PrefixCache
from .engine.runner import DecodeCache, Runner
from .network.autoencoder import Autoencoder
from .painter import BagelPainter

T = TypeVar("T")
# Rows of one call of the network: on a CPU, 4096 leave its caches and 256 are too few to pay for the call. A GPU wants more.
ROWS_CPU, ROWS_GPU = 1024, 32768
# The autoencoder leaves the caches earlier: four pictures of 64 x 64 at a time are fastest.
PIXELS_PER_ROW = 16


@dataclass(frozen=True)
class Request:
    """What a job asks. ``many`` answers requests of one ``kind`` run_batched, ``rows`` says how large this one is."""

    many: Callable[[Sequence[Any]], Sequence[Any]]
    kind: tuple[Any, ...]
    rows: int
    content: Any


Ask = Callable[[Request], Any]


class RequestingRunner(Runner):
    """A runner that asks for everything. What a job computes itself is small, so that is done on the CPU."""

    def __init__(self, batched: BatchedRunner, ask: Ask):
        super().__init__(batched.model, batched.special, torch.device("cpu"))
        self.batched, self.ask = batched, ask

    def prefill(self, past: Sequence[Block], position: int, segment: Segment) -> tuple[Block, Tensor, Tensor]:
        content, config = segment.content, self.model.config
        shape: tuple[int, ...] = ()
        if isinstance(content, tuple):
            rows = len(content) + 2
        else:
            vision = config.vision if segment.kind == "pixels" else None
            patch = vision.patch_size if vision else config.latent_patch_size
            shape, rows = tuple(content.shape), content[0].numel() // patch**2 + 2
        return self.ask(Request(self.batched.prefill_many, (segment.kind, shape), rows, (past, position, segment)))

    def denoise(
        self, branches: Sequence[tuple[Sequence[Block], int]], x: Tensor, grid: tuple[int, int], t: float
    ) -> Tensor:
        many, rows = partial(self.batched.denoise_many, grid=grid), len(branches) * (len(x) + 2)
        return self.ask(Request(many, ("denoise", grid), rows, (branches, x, t)))

    def velocities(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        shape = tuple(hidden[0].shape)
        return self.ask(Request(self.batched.velocities_many, ("velocities", shape), len(hidden) * shape[0], hidden))

    def decode_cache(self, past: Sequence[Block], room: int) -> DecodeCache:
        return self.batched.decode_cache(past, room)

    def decode_token(self, decode_cache: DecodeCache, token: int, position: int) -> Tensor:
        return self.ask(Request(self.batched.decode_tokens, ("step",), 1, (decode_cache, token, position)))


class RequestingAutoencoder(Autoencoder):
    """An autoencoder that asks for everything."""

    def __init__(self, autoencoder: Autoencoder, ask: Ask):
        super().__init__(autoencoder.module, autoencoder.scale, autoencoder.shift)
        self.autoencoder, self.ask = autoencoder, ask

    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        def many(asked: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
            mean, logvar = self.autoencoder.moments(torch.cat(list(asked)))
            return list(zip(mean.cpu().split(1), logvar.cpu().split(1), strict=True))

        return self.ask(Request(many, ("moments", pixels.shape), pixels[0, 0].numel() // PIXELS_PER_ROW, pixels))

    def decode(self, latents: Tensor) -> Tensor:
        def many(asked: Sequence[Tensor]) -> Sequence[Tensor]:
            return self.autoencoder.decode(torch.cat(list(asked))).cpu().split(1)

        return self.ask(Request(many, ("decode", latents.shape), latents[0, 0].numel() * 64 // PIXELS_PER_ROW, latents))


class _Stopped(BaseException):
    """Ends a job from within; no Exception, so that no job takes it for an error of its own."""


class _Job(Generic[T]):
    """Work in a thread that goes on only while :meth:`resume` waits for it."""

    def __init__(self, number: int, work: Callable[[Ask], T]):
        self.number, self.work = number, work
        self.request: Request | None = None
        self.result: T
        self.error: BaseException | None = None
        self._stopped = False
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self.thread = Thread(target=self._run, name=f"job {number}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self._answers.get()
        try:
            if not self._stopped:
                self.result = self.work(self._ask)
        except BaseException as error:
            self.error = error
        self._requests.put(None)

    def _ask(self, request: Request) -> Any:
        answer = None
        # A job may ask again while it ends.
        if not self._stopped:
            self._requests.put(request)
            answer = self._answers.get()
        if self._stopped:
            raise _Stopped
        return answer

    def resume(self, answer: Any = None) -> None:
        """Let it go on to its next ``request``, which is None at its end. Raises what the job raises."""
        self._answers.put(answer)
        self.request = self._requests.get()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Let it end at its next request, wherever it is now."""
        self._stopped = True
        self._answers.put(None)


def run_batched(
    painter: BagelPainter,
    jobs: Sequence[Callable[[BagelPainter], T]],
    concurrency: int = 64,
    *,
    rows: int | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> Iterator[T]:
    """What each job returns, in the order of the jobs; ``concurrency`` of them run at a time, as this is iterated.

    Each gets a painter with a prefix cache of its own, which goes with it. Results are those of running the jobs one by one, up
    to the rounding of floats (where a picture is read again, rounding to 8 bits may make a step of that); the same call
    gives the same bits. ``rows`` limits one call of the network (None: what suits the device). ``on_done`` is called
    after each job with (jobs finished, jobs in all) and may raise Cancelled. The first exception of a job ends all
    others and is raised here.
    """
    runner, checkpoint = painter.runner, painter.checkpoint
    batched = BatchedRunner(runner.model, runner.special, runner.device)
    limit = rows or (ROWS_CPU if runner.device.type == "cpu" else ROWS_GPU)

    def work(job: Callable[[BagelPainter], T]) -> Callable[[Ask], T]:
        def run(ask: Ask) -> T:
            asking = replace(checkpoint, autoencoder=RequestingAutoencoder(checkpoint.autoencoder, ask))
            return job(BagelPainter(asking, PrefixCache(RequestingRunner(batched, ask))))

        return run

    fresh = (_Job(number, work(job)) for number, job in enumerate(jobs))
    running: list[_Job[T]] = []
    results: dict[int, T] = {}
    finished = given = 0
    try:
        while True:
            begun = list(islice(fresh, concurrency - len(running)))
            running += begun
            if not running:
                return
            due = [(job, None) for job in begun] if begun else _answers(running, limit)
            for job, answer in due:
                job.resume(answer)
                if job.request is None:
                    results[job.number] = job.result
                    finished += 1
                    if on_done is not None:
                        on_done(finished, len(jobs))
            running = [job for job in running if job.request is not None]
            while given in results:
                yield results.pop(given)
                given += 1
    finally:
        for job in running:
            job.stop()
        for job in running:
            job.thread.join()


def _answers(waiting: Sequence[_Job[Any]], rows: int) -> list[tuple[_Job[Any], Any]]:
    """The jobs with the most frequent kind of request, in order, each with its answer.

    The others wait until theirs is: so jobs that drifted apart gather again, and batched stay large.
    """
    kinds: dict[tuple[Any, ...], list[tuple[_Job[Any], Request]]] = {}
    for job in waiting:
        assert job.request is not None
        kinds.setdefault(job.request.kind, []).append((job, job.request))
    due = max(kinds.values(), key=len)
    size = max(rows // max(request.rows for _, request in due), 1)
    answers: list[Any] = []
    for i in range(0, len(due), size):
        part = due[i : i + size]
        answers += part[0][1].many([request.content for _, request in part])
    return [(job, answer) for (job, _), answer in zip(due, answers, strict=True)]
