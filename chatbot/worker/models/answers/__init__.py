"""Reads what model servers answer: from bytes to chunks of a reply, its thinking, its function calls and its tokens."""
