"""paxoscluster: a whole cluster on this machine, for demos, soaks and tests."""
