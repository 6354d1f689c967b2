"""Replays scenarios recorded on connected Erlang/OTP 25 nodes on `runtime.nodes`: `python -m tests.otp_nodes DIR...`.

Built on the player of one node (`tests.otp`): what is added are names that hold on all nodes, the ops on nodes, and the world.
"""
