"""RetrySpool's message records as plain files."""
