"""The stand-in's REST API: routes, middleware, request and response models."""
