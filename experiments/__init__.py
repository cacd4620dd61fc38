"""Experiments: one file each, which reads from top to bottom. `python run.py --mode=list` names them.

An experiment is a module with a docstring (its first line is what `--mode=list` shows), a frozen dataclass
`Config`, `TINY` (settings under which two steps take seconds) and `build(config, load) -> Experiment`.
`load` is `ganjax.data.load`, or the command line's own, which knows `--data_dir`.
"""
