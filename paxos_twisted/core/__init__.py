"""The engines: plain values that are fed and drained, without sockets, clocks, threads, files or global randomness."""
