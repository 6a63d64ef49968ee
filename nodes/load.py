"""Loading a unified model, and LoRAs on it."""

from __future__ import annotations

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io

from ..model_loader.folders import EMBEDDED, checkpoint_names, checkpoint_path, dialect_names, lora_path
from ..model_loader.loader import DEVICES, PRECISIONS, UnifiedModel, fingerprint, load_unified, recognise_checkpoint
from ..model_loader.lora import apply_lora
from ..strokes.errors import StrokesError
from .checks import checked, type_problem
from .live import reporting
from .loop_cache import hold_for_this_run
from .sockets import ALIASES, AUTO, STAGES, ModelSocket, model_input


class StrokesLoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesLoadModel",
            display_name="Load Unified Model (Strokes)",
            category=STAGES,
            description="Loads a model that reads and writes both text and pictures: BAGEL-7B-MoT and its relatives from "
            "models/strokes, or the small one that ships along and knows coloured shapes.",
            search_aliases=[*ALIASES, "checkpoint", "load bagel"],
            inputs=[
                io.Combo.Input(
                    "checkpoint", options=checkpoint_names(), default=EMBEDDED,
                    tooltip="Weights in models/strokes or models/bagel, with ae.safetensors, configurations and tokenizer beside "
                    "them; or one BAGEL file, also in models/diffusion_models, with FLUX's autoencoder in models/vae. "
                    f"{EMBEDDED} ships along.",
                ),
                io.Combo.Input(
                    "precision", options=list(PRECISIONS), default="auto",
                    tooltip="What it computes in. auto: bfloat16, float32 for a small model. 8-bit weights stay 8-bit in "
                    "memory.",
                ),
                io.Combo.Input(
                    "device", options=list(DEVICES), default="auto", advanced=True,
                    tooltip="auto: ComfyUI's own choice, moved and streamed as memory allows. cpu: never leaves it.",
                ),
                io.Combo.Input(
                    "dialect", options=[AUTO, *dialect_names()], default=AUTO, optional=True, advanced=True,
                    tooltip="How the model is spoken to. auto: what the model says, else by its folder's name, else plain "
                    "language. A file NAME.json in models/strokes/dialects adds one.",
                ),
            ],
            outputs=[ModelSocket.Output("model", tooltip="For every stage; one wire can serve them all.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, checkpoint: str | None, dialect: str | None = AUTO) -> bool | str:
        if problem := type_problem(cls, checkpoint=checkpoint, dialect=dialect):
            return problem
        if checkpoint is None or dialect is None:  # it comes over a wire
            return True
        try:
            recognise_checkpoint(checkpoint_path(checkpoint), dialect)
        except StrokesError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str | None, precision: str, device: str, dialect: str | None = AUTO) -> str:
        if checkpoint is None or dialect is None:  # it comes over a wire
            return ""
        try:
            return fingerprint(*recognise_checkpoint(checkpoint_path(checkpoint), dialect))
        except StrokesError:
            return ""

    @classmethod
    @checked
    def execute(cls, checkpoint: str, precision: str, device: str, dialect: str | None = None) -> io.NodeOutput:
        with reporting("Load Unified Model"):
            model = load_unified(checkpoint_path(checkpoint), precision, device, AUTO if dialect is None else dialect)
        if args.cache_none:
            # Every round of a loop asks for it again, and nothing else would hold it in between.
            hold_for_this_run(model)
        return io.NodeOutput(model)


class StrokesApplyLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesApplyLora",
            display_name="Apply LoRA (Strokes)",
            category=STAGES,
            description="Puts a LoRA on a unified model. Several in a row add up; the model before it stays as it was, so "
            "one stage can have a LoRA and another not.",
            search_aliases=[*ALIASES, "lora", "fine-tune"],
            inputs=[
                model_input(),
                io.Combo.Input(
                    "lora",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="A .safetensors file in models/loras.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=-10.0, max=10.0, step=0.05, tooltip="How much of it; 0 is none."
                ),
            ],
            outputs=[ModelSocket.Output("model", tooltip="The model with the LoRA on it.")],
        )

    @classmethod
    @checked
    def execute(cls, model: UnifiedModel, lora: str, strength: float) -> io.NodeOutput:
        with reporting("Apply LoRA"):
            return io.NodeOutput(apply_lora(model, lora_path(lora), strength) if strength else model)
