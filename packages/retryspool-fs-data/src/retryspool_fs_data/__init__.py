"""RetrySpool's message payloads as plain files."""
