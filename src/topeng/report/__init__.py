"""The report of a run, as one page. It only reads files of the run folder."""
