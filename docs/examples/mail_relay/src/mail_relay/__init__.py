"""A mail relay: aiosmtpd in front, a RetrySpool spool between, SMTP behind."""
