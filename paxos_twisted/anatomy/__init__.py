"""Where the time went that a client waited because of a failover. `docs/failover.md` explains it with figures.

    facts.py   what is known of one wait: the client's steps, the nodes' events, the fault, all on one clock
    split.py   the wait, cut into phases without gap or overlap
    sources.py the facts, read from histories, from what `paxosctl events` prints, and from nodes' logs

Standard library only: the crash tests use it on a controller where no node is installed.
"""
