"""The Penstock application: command line, local stack, registry endpoint."""
