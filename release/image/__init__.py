"""The image: how it is built, and the steps inside of its build."""
