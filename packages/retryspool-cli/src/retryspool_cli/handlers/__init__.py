"""What `retryspool work` delivers to, as handlers of a queue."""
