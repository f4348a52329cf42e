"""Sockets of this program's own HTTP servers."""

import socket


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on a port of a host, a free port for 0; OSError or OverflowError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family)
    # Python's loop sets this only on sockets that it opens itself. Without it the body of each answer waits 40 ms for
    # the receipt of its head, and a page is 300 of them.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
