"""ComfyUI-Strokes as a ComfyUI extension; the nodes are not there yet."""
