"""A run: what its stages are, what is to be done of them, and the folder that they leave things in."""
