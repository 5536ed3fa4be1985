"""Attempts to break the promises: real processes killed, real servers stopped, real sockets cut."""
