"""Byte streams by the million through what reads what clients send: see `__main__`."""
