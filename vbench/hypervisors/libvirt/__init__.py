"""Guests through libvirt: its domains, and how virsh drives them."""
