"""The pages: demo, operators' console, API description."""
