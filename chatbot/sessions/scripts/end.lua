-- Ends a session: nothing of it is left.
return end_session() and 1 or 0
