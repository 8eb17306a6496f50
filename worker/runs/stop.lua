-- Stop a run: its jobs are refused from now on. A second stop lengthens the first one's life, and changes nothing else.
-- KEYS: 1 the mark, 2 the run's jobs that have begun and not ended (zset)
-- ARGV: 1 why, 2 life of the mark (ms), 3 "" or the time in ms, for tests that move the clock
-- Returns {until when the mark stands (ms), those jobs' ids}
local time = redis.call('TIME')
local now = tonumber(ARGV[3]) or time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], string.format('%d %s', now, ARGV[1]), 'NX')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { now + ARGV[2], redis.call('ZRANGE', KEYS[2], 0, -1) }
