"""Coverage-guided fuzzing of the code that reads what others wrote; ``make fuzz``."""
