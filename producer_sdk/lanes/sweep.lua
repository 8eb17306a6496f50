-- Brings back jobs whose worker is gone, ends pending ones whose deadline has passed; at most 100 of each.
-- KEYS: root. ARGV: 1 lease_ms, 2 delivery cap. Returns {returned, dead, 1 while nothing may be swept}.

local MOST, MOST_DEAD, MOST_LOSSES_BYTES = 100, 10000, 1000
local lease, delivery_cap = tonumber(ARGV[1]), tonumber(ARGV[2])
local is_held_off = tick(lease, read_run())
local returned, dead = 0, 0

local function give_up(job)
  bury(job.id, job.tenant, job.lost, 'lost with its worker ' .. job.lost .. ' times')
  close(job, 'dead')
  place(job.tenant)
  dead = dead + 1
end

local function bring_back(id)
  local job = read(id)
  if not (job and job.tag) then return redis.call('ZREM', UNACKED, id) end
  local worker, taken, losses = unpack(redis.call('HMGET', JOB .. id, 'worker', 'taken', 'losses'))
  local loss = (taken or 0) .. ' ' .. NOW .. ' ' .. (worker or '') .. '\n'
  redis.call('HSET', JOB .. id, 'back', 1, 'losses', (loss .. (losses or '')):sub(1, MOST_LOSSES_BYTES))
  job.back = '1'
  release(job, 'sweep')
  job.lost = redis.call('HINCRBY', JOB .. id, 'lost', 1)
  if job.lost >= delivery_cap and not job.stop and not job.cancel then return give_up(job) end
  -- An end that takes its workers down is tried ever more rarely, but never given up.
  local backoff = job.lost > delivery_cap and NOW + math.min(job.lost * lease, 600000) or 0
  wait_again(job, job.stop and backoff or 0)
  returned = returned + 1
end

-- Leases and the clock: none may end later than one lease from now, whatever the clock did.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', UNACKED, '(' .. NOW + lease, '+inf', 'LIMIT', 0, MOST)) do
  redis.call('ZADD', UNACKED, NOW + lease, id)
end
if not is_held_off then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', UNACKED, '-inf', NOW, 'LIMIT', 0, MOST)) do bring_back(id) end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', NOW, 'LIMIT', 0, MOST)) do
    local job = read(id)
    redis.call('ZREM', DEADLINES, id)
    if job and (job.state == 'pending' or job.state == 'delayed') then
      close(job, 'expired')
      withdraw(job)
    end
  end
end

-- Tenants in turn: slots without an unacked entry are freed, who has nothing left is forgotten.
local function free_slots(held)
  for _, id in ipairs(redis.call('SRANDMEMBER', held, 16)) do
    if not redis.call('ZSCORE', UNACKED, id) then redis.call('SREM', held, id) end
  end
end

for _, tenant in ipairs(redis.call('ZRANGE', TENANTS, 0, 63)) do
  free_slots(HELD .. ':' .. tenant)
  for task in pairs(limits_of(tenant).tasks) do free_slots(HELD .. task .. ':' .. tenant) end
  place(tenant)
  local has_work = has_pending(LANES[1], tenant) or has_pending(LANES[2], tenant)
  if has_work or redis.call('EXISTS', HELD .. ':' .. tenant, DELAYED_OF .. tenant) > 0 then
    redis.call('ZADD', TENANTS, NOW, tenant)
  else redis.call('ZREM', TENANTS, tenant) end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEAD, '-inf', NOW - KEEP_DEAD_S * 1000, 'LIMIT', 0, MOST)) do
  redis.call('ZREM', DEAD, id)
end
for _, id in ipairs(redis.call('ZRANGE', DEAD, 0, -MOST_DEAD - 1)) do -- as many as were buried in this sweep
  redis.call('ZREM', DEAD, id)
  redis.call('DEL', DEAD_OF .. id)
end
forget_idle(64)
return { returned, dead, is_held_off and 1 or 0 }
