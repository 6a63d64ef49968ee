"""A checkpoint chosen in ComfyUI → a loaded model that ComfyUI's memory management can see and move."""
