"""Tools for developing and for `make run`; neither part of the product nor of its image.

`local` runs everything on one machine, `harness` starts real processes for tests and benchmarks, `fake_model` stands in
for a model server, and `chaos`, `hostile`, `alerts` and `picture` are run by targets of the Makefile.
"""
