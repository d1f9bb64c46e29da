"""A run: its stages, which of them are still to be done, and the folder that they write."""
