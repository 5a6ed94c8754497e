"""What in a dataset is probably wrong, and how much of it: captions of other pictures, copies, wrong labels."""
