"""The work in each served namespace: its components, their start and end, and what people see of them."""
