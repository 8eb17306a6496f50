-- What the ledger knows of a run that is not known here: counted from there on. A run that is known stays as it is.
-- KEYS: 1 counts (hash: began, calls), 2 requests (hash: digest, "times messages"), 3 jobs under way (zset: job id, when)
-- ARGV: 1 life of all this (ms), 2 when the run began (ms), 3 calls, 4 number of requests; then a digest and its value
--       for each, then the ids of the jobs under way
-- Returns 1 if it was not known
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'began', ARGV[2], 'calls', ARGV[3])
local last = 4 + 2 * tonumber(ARGV[4])
for at = 5, last, 2 do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
end
for at = last + 1, #ARGV do
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[at])
end
for which = 1, 3 do redis.call('PEXPIRE', KEYS[which], ARGV[1]) end
return 1
