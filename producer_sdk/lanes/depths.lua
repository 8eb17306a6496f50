-- One page of the tenants with work. KEYS: root. ARGV: 1 cursor ('0' first).
-- Returns {next cursor ('0': no more), unacked, closing, dead, rows}; a row is {tenant, running, slots, delayed, pause
-- ("<until_ms, or 0> <reason>", or ''), in how many ms its limits let one go (0: now, or not before a slot frees), which
-- limit, then for each lane: pending, virtual time, how long its next job has waited in ms}.

local function pending_in(lane, tenant)
  local flows, pending = redis.call('SMEMBERS', FLOWS .. lane .. ':' .. tenant), 0
  flows[#flows + 1] = ''
  for _, flow in ipairs(flows) do pending = pending + redis.call('ZCARD', queue_of(lane, flow, tenant)) end
  return pending
end

local page = redis.call('ZSCAN', TENANTS, ARGV[1], 'COUNT', 100)
local rows = {}
for i = 1, #page[2], 2 do
  local tenant, wait, by = page[2][i], 0, ''
  local row = { tenant, redis.call('SCARD', HELD .. ':' .. tenant), limits_of(tenant).slots or -1,
    redis.call('ZCARD', DELAYED_OF .. tenant), is_paused(tenant) or '', 0, '' }
  for _, lane in ipairs(LANES) do
    local at = redis.call('ZSCORE', READY .. lane, tenant) or redis.call('ZSCORE', PARKED .. lane, tenant)
    local found, next_job = choose(lane, tenant), nil
    if found.job then wait = nil
    elseif found.wait and wait and (wait == 0 or found.wait < wait) then wait, by = found.wait, found.by end
    next_job = found.job or read(redis.call('ZRANGE', queue_of(lane, '', tenant), 0, 0)[1] or '')
    row[#row + 1] = pending_in(lane, tenant)
    row[#row + 1] = math.floor(tonumber(at or virtual_time(lane)))
    row[#row + 1] = next_job and math.max(0, NOW - next_job.put) or 0
  end
  if wait then row[6], row[7] = wait, by end
  rows[#rows + 1] = row
end
return { page[1], redis.call('ZCARD', UNACKED), redis.call('ZCARD', CLOSING), redis.call('ZCARD', DEAD), rows }
