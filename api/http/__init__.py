"""Requests and responses: routing, fields, errors, the OpenAPI description."""
