"""Image files to training samples: read, audited, packed, drawn."""
