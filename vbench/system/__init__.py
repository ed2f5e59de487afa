"""What the system can do and what it lacks. Standard library only."""
