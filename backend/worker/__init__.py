"""The live engine, its HTTP service, and the client that the app uses.

`protocol` and `client` need no torch, no transformers and no web framework; only `engine` knows the model.
"""
