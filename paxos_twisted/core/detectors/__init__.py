"""Who is alive, and whom to follow. Shared by all engines."""
