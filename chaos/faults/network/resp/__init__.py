"""Faults aimed at one frame of Redis' protocol: the request or the reply of a command, down to the byte.

`on_command.py` is what a user declares. In the proxy a `Tap` reads the frames of every connection for as long as
a rule is armed or the wire journal wants them; a `Wire` is its hold on one connection.
"""
