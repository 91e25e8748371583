"""From examples to outcomes: local models, Ray, endpoints."""
