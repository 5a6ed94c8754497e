"""The only room that knows Ray: the embed and index graphs, and the cluster they run on."""
