"""What a run found, as one page. Reads files of the run folder only."""
