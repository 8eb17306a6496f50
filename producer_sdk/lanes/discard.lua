-- Takes dead jobs off their list. KEYS: root. ARGV: job ids. Returns how many were on it.

local discarded = 0
for _, id in ipairs(ARGV) do
  discarded = discarded + redis.call('ZREM', DEAD, id)
  redis.call('DEL', DEAD_OF .. id)
end
return discarded
