"""Bots of the operator's own: the function that `MODEL_CALLABLE` names, as a model. See docs/bots.md."""
