"""What the sheet, the page, the terminal and the nodes say of a trajectory's turns."""

from __future__ import annotations

from .trajectory import Cost, Critique, Origin, Refinement, Trajectory

# A round without plan and sketch.
LOOKS_AGAIN = "Looks at the last picture again."


def outcome(trajectory: Trajectory) -> str:
    """How the process ended, in one sentence."""
    rounds = len(trajectory.rounds)
    after = f"after {rounds} round{'' if rounds == 1 else 's'}"
    if trajectory.end:
        if trajectory.end.origin.author == "user":
            return f"Stopped by hand {after}."
        if trajectory.end.problem:
            return f"Stopped {after}: the plan cannot be painted ({trajectory.end.problem})."
        return f"The model planned no more {after}."
    if trajectory.ended:
        return f"Finished {after}."
    return f"Not finished: {trajectory.stage} comes next in round {trajectory.round_index + 1}."


def verdict(critique: Critique) -> str:
    """ "accepted", "to correct" or "unreadable", and the margin where it was measured."""
    word = "accepted" if critique.accepted else "unreadable" if critique.unreadable else "to correct"
    return f"{word}{_margin(critique.margin)}"


def closing(refinement: Refinement) -> str:
    """What a refinement did, and the verdict on the end where it was measured."""
    if refinement.picture:
        done = "repainted"
    elif refinement.rejected:
        done = f"repainting not kept{_margin(refinement.repainted_margin)}"
    else:
        done = "nothing repainted"
    end = "finished" if refinement.ended else "not finished"
    decided = refinement.ended or refinement.margin is not None
    return f"{done}; {end}{_margin(refinement.margin)}" if decided else done


def _margin(margin: float | None) -> str:
    return "" if margin is None else f" {margin:+.2f}"


def origin_line(origin: Origin) -> str:
    """Who made a turn, with which seed, and what it cost."""
    parts = ["by hand" if origin.author == "user" else "model"]
    parts += [f"seed {origin.seed}"] if origin.seed is not None else []
    return " · ".join([*parts, *_costs(origin.cost)])


def cost_of(origin: Origin) -> str:
    """What a turn cost; "by hand" for a person's."""
    return " · ".join([*(["by hand"] if origin.author == "user" else []), *_costs(origin.cost)])


def _costs(cost: Cost) -> list[str]:
    parts = [f"{cost.model_calls} calls"] if cost.model_calls else []
    parts += [f"{cost.tokens} tokens"] if cost.tokens else []
    parts += [f"{cost.scored} row{'' if cost.scored == 1 else 's'} scored"] if cost.scored else []
    parts += [f"{cost.seconds:.1f} s"] if cost.seconds else []
    return parts


def summary(trajectory: Trajectory) -> str:
    """How the process ended, and below it what all turns cost together."""
    return "\n".join(filter(None, (outcome(trajectory), " · ".join(_costs(trajectory.cost)))))


def cost_line(trajectory: Trajectory) -> str:
    """What all turns cost together."""
    cost = trajectory.cost
    scored = f" {cost.scored} rows scored," if cost.scored else ""
    return f"{cost.model_calls} model calls, {cost.tokens} tokens,{scored} {cost.seconds:.1f} s"


def shortened(text: str, most: int) -> str:
    """The first ``most`` characters of a text, and how many more there are."""
    return text if len(text) <= most else f"{text[:most].rstrip()} … and {len(text) - most:,} more characters"
