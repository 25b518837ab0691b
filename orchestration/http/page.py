"""The page of the service's interface: its OpenAPI document to be read, without a script."""

import json
from html import escape
from typing import Any

from starlette.responses import HTMLResponse

STYLE = "body{font:16px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}pre{background:#eee"
STYLE += ";padding:1em;overflow:auto}"
HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}


def page_of(document: dict[str, Any]) -> HTMLResponse:
    """An HTML page of an OpenAPI document."""
    parts = [f"<title>{escape(document['info']['title'])}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{escape(document['info']['title'])}</h1>")
    parts.append(f"<p>{escape(document['info']['description'])} ")
    parts.append("Requests carry <code>Authorization: Bearer TOKEN</code> where there are tokens. ")
    parts.append('For programs: <a href="/openapi.json">openapi.json</a></p>')
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{escape(method.upper())} {escape(path)}</h2>")
            parts.append(f"<p>{escape(operation.get('description', ''))}</p>")
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body:
                name = body["schema"]["$ref"].rpartition("/")[2]
                parts.append(_schema(name, document["components"]["schemas"]))
    return HTMLResponse(f"<!doctype html><html lang=en>{''.join(parts)}</html>", headers=HEADERS)


def _schema(name: str, schemas: dict[str, Any]) -> str:
    """A body's fields, and those of the objects in it."""
    text = json.dumps(schemas[name].get("properties", {}), indent=2)
    inner = [other for other in schemas if f'"#/components/schemas/{other}"' in text]
    parts = [f"<pre>{escape(name)}\n{escape(text)}</pre>"]
    return "".join([*parts, *(_schema(other, schemas) for other in inner)])
