"""User-mode Linux: a Linux kernel that is a program of another."""
