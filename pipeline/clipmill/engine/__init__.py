"""The only room that knows Ray: the graphs of embed, index and near-duplicates, and the cluster they run on."""
