-- The message of a dead job, as it was put. KEYS: root. ARGV: 1 job id. Returns it, or nil where no such job is listed.

return redis.call('HGET', DEAD_OF .. ARGV[1], 'message')
