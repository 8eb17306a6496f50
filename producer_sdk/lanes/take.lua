-- Hands out up to n jobs: those that only need their end written, by turns with those of the tenants in fair order.
-- KEYS: root. ARGV: 1 n, 2 worker, 3 lease_ms, 4 operation id. The same operation id again gets the same jobs, those
-- still held. Returns {now_ms, ms until something is due or -1, whether limits are set, rows}; a row is {job id, tenant,
-- lane, message, delivery number, put_ms, stop or '', its past (start.lua)}.

local n, worker, lease, op = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local MOST_BYTES, rows, bytes, steps = 16 * 1024 * 1024, {}, 0, 0
local is_held_off = tick(lease)

local function hand_over(job)
  redis.call('ZADD', UNACKED, NOW + lease, job.id)
  local message = message_of(job.id)
  bytes = bytes + #message
  rows[#rows + 1] = { job.id, job.tenant, job.lane, message, job.lost + 1, job.put, job.stop or '',
    job.past or past_of(job) }
end

local function hold(job)
  redis.call('HSET', JOB .. job.id, 'tag', job.id .. ':' .. op, 'worker', worker, 'taken', NOW)
  redis.call('RPUSH', TAKES .. op, job.id)
  hand_over(job)
end

local function take_end(id)
  redis.call('ZREM', CLOSING, id)
  local job = read(id)
  if job then hold(job) else bury_damaged(id, '') end
end

-- Whether a job was handed out; if not, the tenant waits elsewhere, or what was odd is out of the way.
local function serve(lane, tenant, at)
  local found = choose(lane, tenant)
  if found.odd then return set_right(lane, tenant, found) end
  local job, flow = found.job, found.flow
  for by, wait in pairs(found.blocked) do held_up(tenant, by, NOW + wait) end
  if not job and found.wait then return throttle(lane, tenant, NOW + math.max(found.wait, LEAST_THROTTLE_MS)) end
  if not job then return leave(lane, tenant) end
  local is_late = job.deadline > 0 and job.deadline <= NOW and not is_held_off
  job.past = past_of(job)
  if is_late then close(job, 'expired') else start(job, flow, at) hold(job) end
  if job.deadline > 0 then redis.call('ZREM', DEADLINES, job.id) end
  dequeue(lane, flow, tenant, job.id)
  return not is_late
end

local function take_new()
  wake_due(64)
  local turns = redis.call('HMGET', STATE, 'turn', 'was_end')
  local turn, was_end = tonumber(turns[1] or 0), turns[2] == '1'
  local ends = redis.call('ZRANGEBYSCORE', CLOSING, '-inf', NOW, 'LIMIT', 0, n)
  while #rows < n and bytes < MOST_BYTES and steps < 2 * n + 64 do
    steps = steps + 1
    local lane, tenant, at = next_up(turn)
    -- Ends go first, but while tenants wait only every second job is one: who cancels a million holds up nobody.
    if ends[1] and not (lane and was_end) then
      take_end(table.remove(ends, 1))
      was_end = true
    elseif lane then
      was_end = false
      if serve(lane, tenant, at) then turn = (turn + 1) % 5 end
    else break end
  end
  if steps == 0 then return end
  redis.call('HSET', STATE, 'turn', turn, 'was_end', was_end and 1 or 0)
  redis.call('PEXPIRE', TAKES .. op, 2 * lease)
  forget_idle(64)
end

local replay = redis.call('LRANGE', TAKES .. op, 0, -1)
for _, id in ipairs(replay) do
  local job, is_live = holder(id .. ':' .. op)
  if is_live then hand_over(job) end
end
if #replay == 0 then take_new() end
return { NOW, until_due(), redis.call('HEXISTS', STATE, 'limits'), rows }
