"""The commands, and the only place that exits."""
