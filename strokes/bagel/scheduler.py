"""The request scheduler: dynamic batching of the model calls of many painting processes.

A job is ordinary code that uses a painter. Its painter sends each model call as a request and waits for the answer.
When all running jobs wait, the most frequent kind of request is answered as one batch, and the jobs that sent them go
on, one after the other. Jobs are coroutines on threads: each has a thread, of which only one runs at any time, so that
the code of the process need not be asynchronous. Nothing depends on timing, and jobs may share data without locks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
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
from .engine.runner import Branch, DecodeCache, DenoiseRequest, Prefilled, PrefillRequest, Runner, ScoreRequest
from .network.autoencoder import Autoencoder
from .painter import BagelPainter

T = TypeVar("T")
# Rows of one batch. On a CPU, 4096 are more than its caches hold and 256 too few to pay for a call; a GPU wants more.
ROWS_CPU, ROWS_GPU = 1024, 32768
# Pixels that count as one row in the autoencoder: so four pictures of 64 x 64 are one batch on a CPU, which is fastest.
PIXELS_PER_ROW = 16


@dataclass(frozen=True)
class Request:
    """A model call of a job. ``many`` answers a batch of requests of one ``kind``, given the ``content`` of each.

    ``rows`` is the number of rows that this one adds to its batch.
    """

    many: Callable[[Sequence[Any]], Sequence[Any]]
    kind: tuple[Hashable, ...]
    rows: int
    content: Any


# Sends a request and waits for its answer.
Ask = Callable[[Request], Any]


class RequestingRunner(Runner):
    """The runner of a job: sends its calls as requests. What the job computes itself is small and stays on the CPU."""

    def __init__(self, batched: BatchedRunner, ask: Ask):
        super().__init__(batched.model, batched.special, torch.device("cpu"))
        self.batched, self.ask = batched, ask

    def prefill(self, past: Sequence[Block], position: int, segment: Segment) -> Prefilled:
        content, config = segment.content, self.model.config
        shape: tuple[int, ...] = ()
        if isinstance(content, tuple):
            rows = len(content) + 2
        else:
            vision = config.vision if segment.kind == "pixels" else None
            patch = vision.patch_size if vision else config.latent_patch_size
            shape, rows = tuple(content.shape), content[0].numel() // patch**2 + 2
        request = PrefillRequest(past, position, segment)
        return self.ask(Request(self.batched.prefill_many, (segment.kind, shape), rows, request))

    def denoise(self, branches: Sequence[Branch], x: Tensor, grid: tuple[int, int], t: float) -> Tensor:
        many, rows = partial(self.batched.denoise_many, grid=grid), len(branches) * (len(x) + 2)
        return self.ask(Request(many, ("denoise", grid), rows, DenoiseRequest(branches, x, t)))

    def velocities(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        shape = tuple(hidden[0].shape)
        return self.ask(Request(self.batched.velocities_many, ("velocities", shape), len(hidden) * shape[0], hidden))

    def decode_cache(self, past: Sequence[Block], room: int) -> DecodeCache:
        return self.batched.decode_cache(past, room)

    def decode_tokens(self, decode_cache: DecodeCache, tokens: Sequence[int], position: int) -> Tensor:
        kind, content = ("decode", len(tokens)), (decode_cache, tokens, position)
        return self.ask(Request(self.batched.decode_many, kind, len(tokens), content))

    def score(self, request: ScoreRequest) -> Tensor:
        return self.ask(Request(self.batched.score_many, ("score",), len(request.ids), request))


class RequestingAutoencoder(Autoencoder):
    """The autoencoder of a job: sends its calls as requests, one a picture."""

    def __init__(self, autoencoder: Autoencoder, ask: Ask):
        super().__init__(autoencoder.module, autoencoder.scale, autoencoder.shift)
        self.autoencoder, self.ask = autoencoder, ask

    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        def many(requests: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
            mean, logvar = self.autoencoder.moments(torch.cat(list(requests)))
            return list(zip(mean.cpu().split(1), logvar.cpu().split(1), strict=True))

        return self.ask(Request(many, ("moments", pixels.shape), pixels[0, 0].numel() // PIXELS_PER_ROW, pixels))

    def decode(self, latents: Tensor) -> Tensor:
        def many(requests: Sequence[Tensor]) -> Sequence[Tensor]:
            return self.autoencoder.decode(torch.cat(list(requests))).cpu().split(1)

        return self.ask(Request(many, ("decode", latents.shape), latents[0, 0].numel() * 64 // PIXELS_PER_ROW, latents))


class _Stopped(BaseException):
    """Raised in a job that has to stop. It is no Exception, so that no job handles it as an error."""


class _Job(Generic[T]):
    """A job as a coroutine: ``work`` in a thread that runs only while :meth:`resume` waits for it."""

    def __init__(self, number: int, work: Callable[[Ask], T]):
        self.number, self.work = number, work
        self.request: Request | None = None
        # Assigned when the work has ended without an error.
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
        # A job that was stopped may send requests from its finally blocks.
        if not self._stopped:
            self._requests.put(request)
            answer = self._answers.get()
        if self._stopped:
            raise _Stopped
        return answer

    def resume(self, answer: Any = None) -> None:
        """Run the job until its next ``request``, which is None at its end. Raises what the job raises."""
        self._answers.put(answer)
        self.request = self._requests.get()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """End the job at its next request, or at the one that it waits for."""
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
    """Run jobs with dynamic batching; yields the result of each, in the order of the jobs.

    ``concurrency`` is the number of jobs that run at a time, and they run while the iterator is read. Each gets a
    painter with a prefix cache of its own. Results equal those of running the jobs one by one up to the rounding of
    floats; a picture that is read again is rounded to 8 bits first, which may turn that into one step of a colour. The
    same call gives the same bits. ``rows`` is the size of a batch; None: what suits the device. ``on_done`` is called
    after each job with (jobs finished, jobs in all) and may raise Cancelled. The first exception of a job stops all
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
    """The jobs whose kind of request is the most frequent, in order, each with its answer.

    The others wait. So jobs that are at different points of their work come together again, and batches stay large.
    """
    kinds: dict[tuple[Hashable, ...], list[tuple[_Job[Any], Request]]] = {}
    for job in waiting:
        assert job.request is not None
        kinds.setdefault(job.request.kind, []).append((job, job.request))
    due = max(kinds.values(), key=len)
    size = max(rows // max(request.rows for _, request in due), 1)
    answers: list[Any] = []
    for i in range(0, len(due), size):
        batch = [request for _, request in due[i : i + size]]
        answers += batch[0].many([request.content for request in batch])
    return [(job, answer) for (job, _), answer in zip(due, answers, strict=True)]
