"""Replays wire transcripts of a real Phoenix server against ours: `python -m tests.phoenix DIR...`."""
