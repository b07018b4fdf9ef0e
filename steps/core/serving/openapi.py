"""The OpenAPI description of the server: the columns of the model that answers, their types, and an example of it."""

from typing import Any

from mlflow.pyfunc import scoring_server

from steps.core.models.scorer import Feature, Schema
from steps.core.serving import request_body
from steps.core.serving.served_model import ServedModel
from steps.core.wording import listed

TYPES: dict[str, dict[str, Any]] = {  # JSON Schema of the values of a feature
    "double": {"type": ["number", "null"]},
    "long": {"type": ["integer", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "string": {"type": ["string", "null"]},
    "date": {"type": ["string", "null"], "format": "date"},
    "timestamp": {"type": ["string", "null"], "format": "date-time"},
}
LABELS = {str: "string", int: "integer", bool: "boolean"}
SHOWN_LEVELS = 20  # of a column of categories
ERROR = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
}
REFUSALS = {
    "400": "The body is no table, a column is missing, or a value is none of its column's type, and which one.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large, or has too many rows.",
    "415": "The body is of a type or an encoding that is not taken.",
    "500": "The server failed; its log says why.",
    "503": "Too many large requests are at work.",
    "504": "The answer took too long.",
}
HEADERS = {
    "X-Model-Uri": {"description": "The version of the model that answered.", "schema": {"type": "string"}},
    "X-Request-Id": {"description": "As it was given, else one of the server's.", "schema": {"type": "string"}},
}


def describe(model: ServedModel) -> dict[str, Any]:
    """The whole document of one version."""
    schema = model.schema
    what = f"Predicts `{schema.target}`" + (f": {listed(schema.classes, SHOWN_LEVELS)}" if schema.classes else "")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": model.name,
            "version": model.version,
            "description": f"{what}. MLflow's scoring protocol, answered by `{model.uri}`.",
        },
        "paths": {
            "/invocations": {"post": _scoring(model)},
            "/ping": {"get": _get("Whether the server answers.", "application/json")},
            "/health": {"get": _get("What answers, and what keeps a newer version from it.", "application/json")},
            "/version": {"get": _get("MLflow's version.", "application/json")},
            "/metrics": {"get": _get("Numbers for Prometheus.", "text/plain")},
        },
        "components": {"schemas": {"Row": _row(schema), "Prediction": _prediction(schema), "Error": ERROR}},
    }


def _scoring(model: ServedModel) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    predictions = {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}}
    answer = {"type": "object", "required": ["predictions"], "properties": {"predictions": predictions}}
    return {
        "summary": "Predict rows",
        "operationId": "predict",
        "requestBody": {
            "required": True,
            "content": {
                request_body.JSON: {"schema": {"oneOf": _bodies()}, "example": model.example},
                request_body.CSV: {"schema": {"type": "string", "description": "A header and a line for each row."}},
                request_body.PARQUET: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {
                "description": "A prediction for each row, in their order.",
                "headers": HEADERS,
                "content": {"application/json": {"schema": answer}},
            },
            **{
                status: {"description": text, "headers": HEADERS, "content": error} for status, text in REFUSALS.items()
            },
        },
    }


def _bodies() -> list[dict[str, Any]]:
    """The forms that a JSON body may have."""
    rows = {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}
    split = {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "data": {"type": "array", "items": {"type": "array"}},
        },
    }
    forms = {
        scoring_server.DF_RECORDS: rows,
        scoring_server.DF_SPLIT: split,
        scoring_server.INPUTS: {"oneOf": [rows, {"type": "object", "additionalProperties": {"type": "array"}}]},
        scoring_server.INSTANCES: rows,
    }
    return [{"type": "object", "required": [form], "properties": {form: values}} for form, values in forms.items()]


def _row(schema: Schema) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [feature.name for feature in schema.features if not feature.optional],
        "properties": {feature.name: _value(feature) for feature in schema.features},
    }


def _value(feature: Feature) -> dict[str, Any]:
    if feature.levels is None:
        return TYPES[feature.type]
    shown = listed(feature.levels, SHOWN_LEVELS)
    return {**TYPES[feature.type], "description": f"In training: {shown}. Any other counts as missing."}


def _prediction(schema: Schema) -> dict[str, Any]:
    if schema.task == "regression":
        return {"type": "object", "required": ["prediction"], "properties": {"prediction": {"type": "number"}}}
    number = {"type": "number", "minimum": 0, "maximum": 1}
    labels = [str(label) for label in schema.classes]
    probabilities = {"type": "object", "required": labels, "properties": dict.fromkeys(labels, number)}
    prediction = {"type": LABELS[type(schema.classes[0])], "enum": list(schema.classes)}
    columns = {"prediction": prediction, "probability": number, "probabilities": probabilities}
    return {"type": "object", "required": list(columns), "properties": columns}


def _get(summary: str, media_type: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {media_type: {}}}}}
