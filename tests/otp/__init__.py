"""Replays scenarios recorded on Erlang/OTP 25 on `runtime` and compares: `python -m tests.otp DIR...`.

The interpreter is thin on purpose: it turns a scenario's ops into calls of the runtime and writes down what
comes back. Whatever a trace shows of OTP's semantics is the runtime's doing.
"""
