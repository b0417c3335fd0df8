"""What `penstock dlq` shows of dead letters: their events where they can be decoded, lines, JSON."""
