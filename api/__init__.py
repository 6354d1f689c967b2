"""The interface of BitNexus: HTTP routes, Phoenix sockets, sign-in, operators' endpoints, pages, command line."""
