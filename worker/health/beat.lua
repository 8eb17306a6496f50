-- A worker still makes these calls of a deployment: their slots last for another lease. Those that are gone stay gone.
-- KEYS: 1 calls under way (zset). ARGV: 1 lease ms, 2 "" or the time in ms, for tests, 3 … attempts
-- Returns how many there still are
local time = redis.call('TIME')
local ends = (tonumber(ARGV[2]) or time[1] * 1000 + math.floor(time[2] / 1000)) + tonumber(ARGV[1])
local found = 0
for at = 3, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[at]) then
    redis.call('ZADD', KEYS[1], 'XX', ends, ARGV[at])
    found = found + 1
  end
end
if found > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return found
