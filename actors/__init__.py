"""The processes of BitNexus: database, ledger, channels, bridge, endpoint. Know runtime and schema."""
