"""The description of the routes for programs: OpenAPI 3.1, as plain data."""

from typing import Any

from foveate import __version__

ENTRY: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "description": "The file's name as sent; else the field's."},
        "label": {"type": "string"},
        "probability": {"type": "number", "minimum": 0, "maximum": 1, "description": "Of the label, calibrated."},
        "unknown": {
            "type": ["boolean", "null"],
            "description": "None of the classes; null where the model can not say.",
        },
        "set": {
            "type": ["array", "null"],
            "items": {"type": "string"},
            "description": "Classes that hold the right one in 95 % of pictures like the validation ones.",
        },
        "strangeness": {"type": "number", "description": "0 to 1 as usual as validation pictures; above 1 beyond."},
        "top": {"type": "array", "items": {"type": "object"}, "description": "With top=K: the K likeliest classes."},
        "heat": {"type": "object", "description": "With heat=1: how far the probability falls with each cell covered."},
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "description": "In place of an answer, for a picture that can not be read.",
        },
    },
}
ERROR = {"description": "Refused.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}


def _query(name: str, kind: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": kind}}


def _get(text: str, kind: str = "application/json") -> dict[str, Any]:
    return {"get": {"summary": text, "responses": {"200": {"description": "OK", "content": {kind: {}}}}}}


def document(token: bool) -> dict[str, Any]:
    """All routes. token: whether they ask for one."""
    picture = {"type": "string", "format": "binary"}
    predict = {
        "summary": "Label pictures, in the order given.",
        "parameters": [
            _query("model", "string", "A name of GET /model; else the first."),
            _query("top", "integer", "So many of the likeliest classes."),
            _query("heat", "integer", "1: where the model looks; 49 more runs of the model a picture."),
            _query("keep", "number", "Share of usual pictures that is not called unknown; 0.95 unless said."),
            _query("set", "number", "Share of pictures whose set holds the right class; 0.95 unless said."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {"type": "object", "additionalProperties": picture}},
                "application/octet-stream": {"schema": picture},
                "image/*": {"schema": picture},
            },
        },
        "responses": {
            "200": {
                "description": "An entry a picture.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Predictions"}}},
            },
            **{str(status): ERROR for status in (400, 401, 403, 404, 408, 413, 415, 421, 429, 431, 503)},
        },
    }
    entries = {"type": "array", "items": {"$ref": "#/components/schemas/Entry"}}
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "foveate serve", "version": __version__},
        "paths": {
            "/predict": {"post": predict},
            "/model": _get("The models: classes, preprocessing, measured numbers, card."),
            "/healthz": _get("Whether the process answers."),
            "/readyz": _get("Whether it takes pictures; 503 while it starts or stops."),
            "/metrics": _get("Counters for Prometheus.", "text/plain"),
            "/openapi.json": _get("This document."),
        },
        "components": {
            "schemas": {
                "Entry": ENTRY,
                "Predictions": {
                    "type": "object",
                    "required": ["model", "predictions"],
                    "properties": {"model": {"type": "string"}, "predictions": entries},
                },
                "Error": {
                    "type": "object",
                    "properties": {
                        "error": {"type": "object", "properties": ENTRY["properties"]["error"]["properties"]}
                    },
                },
            },
        },
    }
    if token:
        whole["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"token": []}]
    return whole
