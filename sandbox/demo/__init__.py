"""The demo: the main job from a callback to the archive, on this machine."""
