"""The pages: demo, console, API description."""
