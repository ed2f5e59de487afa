"""A run: options, selection, the loop, the guest that is up, journal, progress, lock."""
