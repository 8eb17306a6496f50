-- Prelude for tests and simulators: they set the clock and the server's identity (fakeredis has no INFO).
local function read_clock()
  return tonumber(redis.call('GET', ROOT .. 'clock')) or 0
end
local function read_run()
  return redis.call('GET', ROOT .. 'run') or ''
end
