"""Health of deployments, shared by the fleet: pauses, cool-downs, breakers, and how many calls each takes at once."""
