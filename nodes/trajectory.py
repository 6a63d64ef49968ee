"""Nodes on trajectories: pictures of other nodes in, any round's out, saved folders, the contact sheet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui
from torch import Tensor

from ..model_loader.loader import UnifiedModel
from ..strokes.errors import StrokesError
from ..strokes.process import store
from ..strokes.process.pictures import Picture, picture_from
from ..strokes.process.sheet import contact_sheet
from ..strokes.process.trajectory import Round, Trajectory
from .checks import checked, type_problem
from .live import payload, reporting
from .sockets import ALIASES, STAGES, TrajectorySocket, image_outputs, model_input, trajectory_input, trajectory_output
from .values import image_from, image_to, latent_from, outputs_of

PICTURES = ("last", "sketch", "refined", "start")
LONGEST_NAME = 200
NAMES = f"give folders and a name under ComfyUI's output, each of at most {LONGEST_NAME} bytes"


class StrokesReplaceImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesReplaceImage",
            display_name="Replace Image (Strokes)",
            category=STAGES,
            description="Puts a picture from any other node (upscaler, ControlNet pass, inpainting, your own hand) in the "
            "place of the last one; the next stage goes on from there.",
            search_aliases=[*ALIASES, "replace", "back in", "upscale", "controlnet", "paste"],
            inputs=[
                model_input(),
                trajectory_input(),
                io.Image.Input("image", optional=True, tooltip="The picture to take. It is stretched to the canvas."),
                io.Latent.Input(
                    "latent", optional=True,
                    tooltip="Instead of an image: a LATENT of the same autoencoder (FLUX's, for BAGEL), taken as it is.",
                ),
                io.Boolean.Input(
                    "resize_canvas", default=False,
                    tooltip="On: the canvas takes the picture's size, to the nearest multiple of 16, from here on.",
                ),
            ],
            outputs=[trajectory_output()],
        )  # fmt: skip

    @classmethod
    @checked
    def execute(
        cls,
        model: UnifiedModel,
        trajectory: Trajectory,
        resize_canvas: bool,
        image: Tensor | None = None,
        latent: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        if trajectory.end:
            # This round's plan ended the work: the rest of a loop's body still runs, and changes nothing.
            return io.NodeOutput(trajectory)
        with reporting("Replace Image", trajectory):
            if image is not None and latent is None:
                picture = Picture(image_from(image))
            elif latent is not None and image is None:
                picture = latent_from(latent, model)
            else:
                raise StrokesError("connect either an image or a latent")
            if resize_canvas:
                multiple = model.painter.profile.multiple
                width, height = (max(1, round(side / multiple)) * multiple for side in picture.image.size)
                model.painter.profile.check_size((width, height))
                trajectory = trajectory.with_size((width, height))
            fitted = model.painter.encode(picture_from(picture, trajectory.size))
            return io.NodeOutput(trajectory.with_picture(fitted))


class StrokesGetTurn(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesGetTurn",
            display_name="Get Turn (Strokes)",
            category=STAGES,
            description="Takes a picture and the texts of any round out of a trajectory.",
            search_aliases=[*ALIASES, "turn", "round", "history", "extract"],
            inputs=[
                trajectory_input("The work to look into."),
                io.Int.Input("round", default=0, min=0, max=1000, tooltip="From 1. 0 = the last round."),
                io.Combo.Input(
                    "picture", options=list(PICTURES), default="last",
                    tooltip="last: the round's final picture. start: the picture the work began with.",
                ),
            ],
            outputs=[
                *image_outputs("The picture asked for."),
                io.String.Output("instruction", tooltip="What the round was to change."),
                io.String.Output("description", tooltip="The whole scene after the round, as planned."),
                io.String.Output("critique", tooltip="What was seen in the sketch."),
                io.String.Output("correction", tooltip="What was to be repainted; empty where the sketch was accepted."),
            ],
        )  # fmt: skip

    @classmethod
    @checked
    def execute(cls, trajectory: Trajectory, round: int, picture: str) -> io.NodeOutput:
        with reporting("Get Turn"):
            round_, found = find_turn(trajectory, round, picture)
        plan, critique = (round_.plan, round_.critique) if round_ else (None, None)
        planned = (plan.instruction, plan.description) if plan else ("", "")
        inspected = (critique.explanation, critique.correction) if critique else ("", "")
        return io.NodeOutput(*outputs_of(found), *planned, *inspected)


def find_turn(trajectory: Trajectory, number: int, kind: str) -> tuple[Round | None, Picture]:
    """Round ``number`` (from 1; 0 is the last) and its picture ``kind``, one of ``PICTURES``.

    Raises StrokesError for a round or picture that is not there, naming those that are.
    """
    count = len(trajectory.rounds)
    if number > count:
        raise StrokesError(f"round {number} was asked for, but the trajectory has {count}")
    round_ = trajectory.rounds[number - 1] if count else None
    refined = round_.refinement.picture if round_ and round_.refinement else None
    # A round that only looks again leaves the picture of an earlier one.
    until = trajectory.rounds[: number or count]
    last = next((each.picture for each in reversed(until) if each.picture), trajectory.start)
    pictures = {
        "start": trajectory.start,
        "sketch": round_.sketch.picture if round_ and round_.sketch else None,
        "refined": refined,
        "last": last,
    }
    found = pictures[kind]
    if found is None:
        have = ", ".join(name for name, picture in pictures.items() if picture) or "none yet"
        raise StrokesError(f"round {number or count} has no picture '{kind}'; it has: {have}")
    return round_, found


class StrokesSaveTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesSaveTrajectory",
            display_name="Save Trajectory (Strokes)",
            category=STAGES,
            description="Writes the whole work to a folder: every picture, every text, and trajectory.json, which Load "
            "Trajectory and the command line open again.",
            search_aliases=[*ALIASES, "save", "export", "share"],
            inputs=[
                trajectory_input("The work to save, finished or not."),
                io.String.Input(
                    "filename_prefix",
                    default="strokes/trajectory",
                    tooltip="Folder under ComfyUI's output; it is numbered.",
                ),
            ],
            outputs=[io.String.Output("path", tooltip="The folder, for Load Trajectory.")],
            is_output_node=True,
        )

    @classmethod
    @checked
    def execute(cls, trajectory: Trajectory, filename_prefix: str) -> io.NodeOutput:
        output = folder_paths.get_output_directory()
        with reporting("Save Trajectory"):
            check_name("filename_prefix", filename_prefix)
            if not Path(output, filename_prefix).parent.resolve().is_relative_to(Path(output).resolve()):
                raise StrokesError(f"filename_prefix '{filename_prefix}' leads out of ComfyUI's output folder: {NAMES}")
            try:
                folder, name, counter, _, _ = folder_paths.get_save_image_path(filename_prefix, output)
            except OSError as error:
                raise StrokesError(f"filename_prefix '{filename_prefix}': {error.strerror or error}; {NAMES}") from None
            path = os.path.join(folder, f"{name}_{counter:05}_")
            store.save(trajectory, path)
        image = trajectory.picture.image if trajectory.picture else None
        return io.NodeOutput(os.path.relpath(path, output), ui=payload(cls, trajectory, image=image))


class StrokesLoadTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesLoadTrajectory",
            display_name="Load Trajectory (Strokes)",
            category=STAGES,
            description="Opens a saved work, from this machine or another, to look at it or go on.",
            search_aliases=[*ALIASES, "load", "open", "import"],
            inputs=[
                io.String.Input(
                    "path",
                    default="strokes/trajectory_00001_",
                    tooltip="A trajectory's folder in ComfyUI's output or input.",
                )
            ],
            outputs=[TrajectorySocket.Output("trajectory", tooltip="The work as it was saved.")],
        )

    @classmethod
    def validate_inputs(cls, path: str | None) -> bool | str:
        if problem := type_problem(cls, path=path):
            return problem
        try:
            return path is None or bool(find_trajectory(path))
        except StrokesError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, path: str | None) -> str:
        if path is None:  # it comes over a wire
            return ""
        try:
            return str([file.stat().st_mtime_ns for file in sorted(find_trajectory(path).rglob("*"))])
        except StrokesError:
            return ""

    @classmethod
    @checked
    def execute(cls, path: str) -> io.NodeOutput:
        with reporting("Load Trajectory"):
            return io.NodeOutput(store.load(find_trajectory(path)))


def check_name(what: str, name: str) -> None:
    """Raise StrokesError for a name that no file can have; ``what`` is the input it was given on."""
    try:
        parts = name.encode().replace(b"\\", b"/").split(b"/")
    except UnicodeEncodeError:
        raise StrokesError(f"{what}: the name is not valid Unicode; {NAMES}") from None
    if not name.isprintable():
        raise StrokesError(f"{what} {name[:40]!r}: the name has control characters; {NAMES}")
    if max(map(len, parts)) > LONGEST_NAME or len(name) > 10 * LONGEST_NAME:
        raise StrokesError(f"{what} '{name[:40]}…': the name is too long; {NAMES}")


def find_trajectory(name: str) -> Path:
    """A trajectory's folder by its name under ComfyUI's output or input; StrokesError where there is none."""
    check_name("path", name)
    places = [Path(folder_paths.get_output_directory()), Path(folder_paths.get_input_directory())]
    for place in places:
        folder = (place / name).resolve()
        folder = folder.parent if folder.name == store.DOCUMENT else folder
        if folder.is_relative_to(place.resolve()) and (folder / store.DOCUMENT).is_file():
            return folder
    raise StrokesError(
        f"no trajectory '{name}' in {' or '.join(map(str, places))}: give the folder that Save Trajectory wrote"
    )


class StrokesContactSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesContactSheet",
            display_name="Contact Sheet (Strokes)",
            category=STAGES,
            description="The whole process on one picture: plan, sketch, critique and refinement of every round.",
            search_aliases=[*ALIASES, "sheet", "overview", "storyboard"],
            inputs=[trajectory_input("The work to show.")],
            outputs=[io.Image.Output("image", tooltip="The sheet, about 1140 pixels wide.")],
            is_output_node=True,
        )

    @classmethod
    @checked
    def execute(cls, trajectory: Trajectory) -> io.NodeOutput:
        sheet = image_to(contact_sheet(trajectory))
        return io.NodeOutput(sheet, ui=ui.PreviewImage(sheet, cls=cls))
