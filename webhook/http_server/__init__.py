"""What every HTTP process shares: the server, its bounds, rate limits, forms and the client's address."""
