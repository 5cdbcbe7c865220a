"""`paxosctl grade`: runs what shows that each requirement holds, and prints the evidence."""
