"""How each hypervisor is driven. Nothing else knows them."""
