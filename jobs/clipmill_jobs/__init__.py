"""The commands: one file a job, each reading as the story of that job."""
