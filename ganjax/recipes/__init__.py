"""Settings and networks that several experiments have in common: classes to inherit a `Config` from."""
