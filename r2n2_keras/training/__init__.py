"""Training: the loop, its steps, the workdir."""
