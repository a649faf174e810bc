"""Data sets: where they come from, kept as tensors in a store, served as batches. `dataset.open_data` is the way in."""
