-- Prelude: the lane's own clock, moved by takes, beats and sweeps; it shows when the server was away.

-- True while nothing may be swept: for one lease after the first tick, a new server run, or a jump of the clock by
-- more than half a lease, forward or backward. Workers beat every third of a lease, so that any shorter absence leaves
-- a live worker time for a beat.
local function tick(lease, run)
  local last, known_run, hold = unpack(redis.call('HMGET', STATE, 'tick', 'run', 'hold'))
  hold = tonumber(hold or 0)
  local is_other_run = run ~= nil and run ~= known_run
  if not last or is_other_run or math.abs(NOW - last) > lease / 2 then
    hold = NOW + lease
    redis.call('HSET', STATE, 'hold', hold)
    if last and NOW < tonumber(last) then
      redis.call('HSET', STATE, 'set_back', NOW)
      -- when to look again was said by a clock that was ahead: look again at all of them
      for _, set in ipairs({ THROTTLED .. LANES[1], THROTTLED .. LANES[2], DELAYED, TENANTS }) do
        redis.call('ZUNIONSTORE', set, 1, set, 'WEIGHTS', 0)
      end
    end
  end
  redis.call('HSET', STATE, 'tick', NOW)
  if is_other_run then redis.call('HSET', STATE, 'run', run) end
  return NOW < hold
end
