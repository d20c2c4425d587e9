"""Parts of the benchmarks in `tools/benchmark*.py`.

`measuring`, `child` and the programs `run_*` need nothing but the standard library and what they
measure, so that they run in the environments of other projects too:
`PYTHONPATH=tools python -m benchmarking.run_sahi JOB`.
"""
