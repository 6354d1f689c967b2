"""The interface of BitNexus: HTTP routes, Phoenix socket transports, sign-in, operators' endpoints and pages."""
