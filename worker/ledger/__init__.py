"""The ledger in SQL: the journal of attempts, one usage row for each that was sent, one final row a job."""
