"""The interfaces of OpenAI's clients below `/v1`: Open Responses, chat completions, the list of models.

Each is an encoding of the same steps as the websocket `/chat`: sessions, ledger, queue and workers are the same.
"""
