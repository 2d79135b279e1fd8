"""Benchmarks: the named shapes, measured beside torch, layer by layer, and against the machine.

`convcore bench` and `convcore time` are the ways in; ``docs/benchmarks.md`` says how to read what
they print. Nothing here is imported by ``import convcore``.
"""
