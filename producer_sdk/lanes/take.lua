-- Hands out up to n jobs: first those that only need their end written, then the lanes' tenants in fair order.
-- KEYS: root. ARGV: 1 n, 2 worker, 3 lease_ms, 4 operation id. The same operation id again gets the same jobs, those
-- still held. Returns {now_ms, ms until something is due or -1, whether caps are set, rows}; a row is {job id, tenant,
-- lane, message, delivery number, put_ms, stop or ''}.

local n, worker, lease, op = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local MOST_BYTES, rows, bytes, steps = 16 * 1024 * 1024, {}, 0, 0
local is_held_off = tick(lease)

local function hand_over(job)
  redis.call('ZADD', UNACKED, NOW + lease, job.id)
  local message = redis.call('GET', MESSAGE .. job.id) or ''
  bytes = bytes + #message
  rows[#rows + 1] = { job.id, job.tenant, job.lane, message, job.lost + 1, job.put, job.stop or '' }
end

local function hold(job)
  redis.call('HSET', JOB .. job.id, 'tag', job.id .. ':' .. op, 'worker', worker)
  redis.call('RPUSH', TAKES .. op, job.id)
  hand_over(job)
end

local function take_closing()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', CLOSING, '-inf', NOW, 'LIMIT', 0, n)) do
    local job = bytes < MOST_BYTES and read(id)
    if job ~= false then redis.call('ZREM', CLOSING, id) end
    if job then hold(job) end
  end
end

local turn = tonumber(redis.call('HGET', STATE, 'turn') or 0)
local function next_up()
  local first = turn % 5 == 4 and 2 or 1
  for _, lane in ipairs({ LANES[first], LANES[3 - first] }) do
    local head = redis.call('ZRANGE', READY .. lane, 0, 0, 'WITHSCORES')
    if head[1] then return lane, head[1], tonumber(head[2]) end
  end
end

local function serve(lane, tenant, at)
  local job = read(redis.call('ZPOPMIN', QUEUE .. lane .. ':' .. tenant)[1] or '')
  if not job or job.state ~= 'pending' then return end
  if job.deadline > 0 then redis.call('ZREM', DEADLINES, job.id) end
  if job.deadline > 0 and job.deadline <= NOW and not is_held_off then return close(job, 'expired') end
  redis.call('SADD', HELD .. tenant, job.id)
  set_state(job, 'running')
  hold(job)
  advance(lane, at)
  redis.call('ZADD', READY .. lane, at + job.cost, tenant)
  turn = (turn + 1) % 5
end

local replay = redis.call('LRANGE', TAKES .. op, 0, -1)
for _, id in ipairs(replay) do
  local job, is_live = holder(id .. ':' .. op)
  if is_live then hand_over(job) end
end
if #replay == 0 then
  wake_due(64)
  take_closing()
end
while #replay == 0 and #rows < n and steps < 2 * n + 16 and bytes < MOST_BYTES do
  local lane, tenant, at = next_up()
  if not lane then break end
  steps = steps + 1
  if has_slot(tenant) then serve(lane, tenant, at) end
  if not has_slot(tenant) then
    for _, each in ipairs(LANES) do leave(each, tenant) end
  elseif redis.call('EXISTS', QUEUE .. lane .. ':' .. tenant) == 0 then leave(lane, tenant) end
end
redis.call('HSET', STATE, 'turn', turn)
redis.call('PEXPIRE', TAKES .. op, 2 * lease)
forget_idle(64)
return { NOW, until_due(), redis.call('HEXISTS', STATE, 'default_cap'), rows }
