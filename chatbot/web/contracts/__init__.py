"""The contracts for programs, from the marshmallow schemas: OpenAPI for HTTP, AsyncAPI for the websocket."""
