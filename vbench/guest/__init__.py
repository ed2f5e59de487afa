"""From launch to first command, and what a workload runs on."""
