"""paxosctl: look at a cluster, check it and break it on purpose."""
