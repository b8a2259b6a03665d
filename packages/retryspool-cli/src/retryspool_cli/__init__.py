"""The retryspool command: look into a message spool, and work it."""
