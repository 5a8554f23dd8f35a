"""The documents of OpenAI's interfaces: Open Responses and chat completions.

Sources: the OpenAPI document of openresponses.org, and the API reference of OpenAI for chat completions.
"""
