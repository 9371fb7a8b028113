"""Statistics on counts: arrays in, arrays or `Estimate`s out. No clock, no files, no randomness."""
