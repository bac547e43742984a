"""Takes tar bundles, verifies every byte against its metadata, and archives them all or nothing."""
