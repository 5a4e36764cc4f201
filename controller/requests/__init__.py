"""Requests of people: the label ``counterfoil.dev/request``, and what carries each of them out."""
