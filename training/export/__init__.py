"""A run to a servable model file, after every check on the written file."""
