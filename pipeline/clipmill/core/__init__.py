"""What every room speaks: settings, manifests, schemas, errors, reporter and logging, the environment."""
