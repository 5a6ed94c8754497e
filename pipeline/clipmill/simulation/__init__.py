"""What a run of any size would do, by the real planner and the real policies, with a clock in the place of S3 and Ray."""
