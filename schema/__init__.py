"""The database of BitNexus: migrations, row types, named SQL. Knows nothing of actors or HTTP."""
