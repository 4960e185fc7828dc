"""A provider a file, and what providers share: payloads, faults, keys, images."""
