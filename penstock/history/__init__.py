"""What `penstock events` shows: times as people write them, events as lines, and the way to stdout."""
