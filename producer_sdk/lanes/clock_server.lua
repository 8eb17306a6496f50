-- Prelude in service: the server's own clock and identity.
local function read_clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function read_run()
  return redis.call('INFO', 'server'):match('run_id:(%w+)') or ''
end
