"""Oracle VirtualBox: how it is driven, and what a host must have."""
