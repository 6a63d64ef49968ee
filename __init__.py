"""ComfyUI-Strokes: Plan, Sketch, Inspect and Refine as ComfyUI nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    # Imported here, so that pytest can import this file without ComfyUI.
    from .nodes import StrokesExtension

    return StrokesExtension()
