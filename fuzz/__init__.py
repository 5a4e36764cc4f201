"""Coverage-guided fuzzing of the code that reads what others wrote; ``python -m fuzz`` or ``make fuzz``."""
