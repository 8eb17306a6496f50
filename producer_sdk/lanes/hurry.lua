-- Lets a tenant's jobs that were handed back with a delay go at once: what they waited for may be there now.
-- KEYS: root. ARGV: 1 tenant. Returns how many; at most 1,000, the rest keep their time.

local hurried = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DELAYED_OF .. ARGV[1], '(' .. NOW, '+inf', 'LIMIT', 0, 1000)) do
  local job = read(id)
  if job and job.back then
    redis.call('ZADD', DELAYED_OF .. ARGV[1], NOW, id)
    hurried = hurried + 1
  end
end
if hurried > 0 then
  redis.call('ZADD', DELAYED, NOW, ARGV[1])
  redis.call('PUBLISH', WAKE, 'wake')
end
return hurried
