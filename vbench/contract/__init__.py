"""All that a plugin author needs: hooks, registry, and the protocols of host and backend."""
