"""Delivers the events of sessions to the connections of this web process: hub, subscribers, outboxes."""
