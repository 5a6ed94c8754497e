"""What a run will take, before it is started: time, cores, bytes and money. Pure functions of counts."""
