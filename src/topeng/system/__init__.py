"""The machine below a run: files, memory, processes, signals, the terminal. Open to all packages."""
