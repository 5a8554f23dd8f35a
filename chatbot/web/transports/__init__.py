"""How clients of a session send and get frames: websocket, event stream and long poll.

Each transport opens a `Connection` (`connections.py`), and has its client's frames carried out by a `FrameHandler`.
"""
