"""The Fairlane worker: takes jobs from tenants' lanes and carries each through every step."""
