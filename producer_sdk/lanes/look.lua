-- All that explains where one job is now. KEYS: root. ARGV: job id. Returns names and values by turns; none where the job
-- is not known. `held_up`: what holds its tenant up now, and `held_up_ms` for how long (-1: until something changes).

local job = read(ARGV[1])
if not job then return {} end
local told = {}
local function tell(name, value)
  told[#told + 1] = name
  told[#told + 1] = value
end

local flow = flow_of(job.tenant, job.task)
local queue = queue_of(job.lane, flow, job.tenant)

local function why_pending()
  local pause, until_ms = is_paused(job.tenant)
  if pause then return 'paused: ' .. pause:match('^%d+ ?(.*)'), until_ms > 0 and until_ms - NOW or -1 end
  if not has_slot('', job.tenant) then return 'concurrency', -1 end
  if flow ~= '' and not has_slot(flow, job.tenant) then return 'concurrency of ' .. flow, -1 end
  local head = read(redis.call('ZRANGE', queue, 0, 0)[1] or '')
  if not head then return '', 0 end
  local wait, by = wait_in('', job.tenant, head.tokens)
  if flow ~= '' then
    local longer, its_own = wait_in(flow, job.tenant, head.tokens)
    if longer > wait then wait, by = longer, its_own end
  end
  return by, wait
end

for _, name in ipairs({ 'state', 'tenant', 'lane', 'task', 'put', 'deadline', 'lost', 'stop' }) do
  tell(name, job[name] or '')
end
local kept = { 'worker', 'taken', 'let_go', 'story', 'losses', 'ahead' }
local values = redis.call('HMGET', JOB .. job.id, unpack(kept))
for i, name in ipairs(kept) do tell(name, values[i] or job[name] or '') end
tell('now', NOW)
tell('position', redis.call('ZRANK', queue, job.id) or -1)
tell('queue', redis.call('ZCARD', queue))
tell('due', redis.call('ZSCORE', DELAYED_OF .. job.tenant, job.id) or 0)
tell('running', redis.call('SCARD', HELD .. ':' .. job.tenant))
tell('slots', limits_of(job.tenant).slots or -1)
tell('others', redis.call('ZCARD', READY .. job.lane))
tell('tenants_before', redis.call('ZRANK', READY .. job.lane, job.tenant) or -1)
if job.state == 'pending' then
  local by, wait = why_pending()
  tell('held_up', by)
  tell('held_up_ms', wait)
end
local since = tonumber(values[3] or job.put)
for _, value in ipairs(lately(job.tenant, since)) do
  tell('span', value)
end
return told
