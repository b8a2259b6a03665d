"""`retryspool demo`: a spool that is put through its paces, and audited."""
