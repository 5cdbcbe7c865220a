"""The virtual lab: machines with a network of their own, on the machine at hand. See docs/lab.md."""
