"""Limits of addresses, sessions and sockets: rates, open connections, failed handshakes."""
