"""Agent runs: how many jobs a run may have, how deep, how long, how often the same one; and stopping a run."""
