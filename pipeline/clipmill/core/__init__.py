"""What every room speaks: settings, schemas, errors, events, the environment."""
