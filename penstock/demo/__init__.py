"""The demo: real events through real servers, read back and counted."""
