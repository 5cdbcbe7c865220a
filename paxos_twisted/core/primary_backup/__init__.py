"""Primary-backup replication: views that a majority decides, and a primary whose backups all hold what it commits."""

from paxos_twisted.core.primary_backup.replica import PrimaryBackup
from paxos_twisted.core.primary_backup.settings import Settings
from paxos_twisted.core.primary_backup.view import View, ViewChange

__all__ = ["PrimaryBackup", "Settings", "View", "ViewChange"]
