"""One training run: its directory, its steps, its checkpoints."""
