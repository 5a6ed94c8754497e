"""S3 and stores that speak its API: one client, one way to retry, one place where errors become sentences."""
