"""Cache: the same question of the same tenant is answered again without a call, for as long as its task allows."""
