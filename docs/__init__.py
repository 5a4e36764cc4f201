"""Documentation; its programs are in ``docs/tools/``."""
