"""The model under study: load it, dress it in organisms, edit it, sample it, trace it, train it.

The only package of the backend that knows torch, transformers and peft for the model under study.
"""
