"""The file format, merging, statistics, comparison, formatting of numbers. Needs model only."""
