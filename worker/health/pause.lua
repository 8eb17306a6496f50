-- Stop new calls of a scope for a time. Again: what is said last holds. Pauses that are over are cleared away.
-- KEYS: 1 pauses (hash: scope -> "until since reason")
-- ARGV: 1 scope ("all" or "provider:NAME"), 2 for how many ms (0: until it is resumed), 3 reason, 4 "" or the time in ms,
--       for tests that move the clock
-- Returns until when (ms), 0 likewise
local time = redis.call('TIME')
local now = tonumber(ARGV[4]) or time[1] * 1000 + math.floor(time[2] / 1000)
local kept = redis.call('HGETALL', KEYS[1])
for at = 1, #kept, 2 do
  local ends = tonumber(kept[at + 1]:match('^%d+'))
  if ends > 0 and ends <= now then redis.call('HDEL', KEYS[1], kept[at]) end
end
local for_ms = tonumber(ARGV[2])
local until_ms = for_ms > 0 and now + for_ms or 0
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %d %s', until_ms, now, ARGV[3]))
return until_ms
