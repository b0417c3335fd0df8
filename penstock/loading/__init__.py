"""Reading events from files and putting them on their way: `penstock load`."""
