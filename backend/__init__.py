"""The analysis backend: what the app, the command line and the worker are made of."""
