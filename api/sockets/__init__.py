"""The Phoenix socket of BitNexus: its transports and who may connect."""
