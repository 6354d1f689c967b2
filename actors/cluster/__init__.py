"""Several servers as one: the embedded NATS server, the server processes of one machine, and this server's membership."""
