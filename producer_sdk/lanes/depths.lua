-- One page of the tenants with work. KEYS: root. ARGV: 1 cursor ('0' first).
-- Returns {next cursor ('0': no more), unacked, closing, dead, rows}; a row is {tenant, running, cap, delayed, then for
-- each lane: pending, virtual time, how long its next job has waited in ms}.

local page = redis.call('ZSCAN', TENANTS, ARGV[1], 'COUNT', 100)
local rows = {}
for i = 1, #page[2], 2 do
  local tenant = page[2][i]
  local row = { tenant, redis.call('SCARD', HELD .. tenant), cap_of(tenant), redis.call('ZCARD', DELAYED_OF .. tenant) }
  for _, lane in ipairs(LANES) do
    local queue = QUEUE .. lane .. ':' .. tenant
    local at = redis.call('ZSCORE', READY .. lane, tenant) or redis.call('ZSCORE', PARKED .. lane, tenant)
    local job = read(redis.call('ZRANGE', queue, 0, 0)[1] or '')
    row[#row + 1] = redis.call('ZCARD', queue)
    row[#row + 1] = tonumber(at or virtual_time(lane))
    row[#row + 1] = job and math.max(0, NOW - job.put) or 0
  end
  rows[#rows + 1] = row
end
return { page[1], redis.call('ZCARD', UNACKED), redis.call('ZCARD', CLOSING), redis.call('ZCARD', DEAD), rows }
