"""
The parts that all HTTP processes share: server, process, limits, errors, responses, forms, rate limits,
client address.
"""
