-- Count one piece of work of a tenant: a first attempt deposits, a retry is paid for. Once per operation.
-- KEYS: 1 bucket (hash), 2 operation, 3 failed content (holds the job id that failed with it), or just 1 and 2
-- ARGV: 1 floor per minute, 2 job id, 3 "1": it is a retry anyway, "2": a hedge, which leaves half of the floor,
--       4 deposit, 5 cap, 6 window ms, 7 operation's life ms (deposits in thousandths of a token), 8 "" or the time in
--       ms, for tests that move the clock
-- Returns {allowed 0|1, ms until a token is there (-1: never, or for a hedge, which nobody waits for), "1" if it was a
-- resubmission}
-- The bucket's fields: at, floor (what refills by time, a token is 60000 of it, so that a millisecond is a whole
-- number), win, cur, prev (deposits of this and the last window: a deposit lives one to two windows). A clock that
-- goes back refills nothing; one that leaps refills to the brim.
local time = redis.call('TIME')
local now = tonumber(ARGV[8]) or time[1] * 1000 + math.floor(time[2] / 1000)
local floor_per_min, job_id = tonumber(ARGV[1]), ARGV[2]
local deposit, cap, window = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local failed = KEYS[3] and redis.call('GET', KEYS[3])
local resubmitted = failed and failed ~= job_id
local counted = redis.call('GET', KEYS[2])
if counted then
  return {1, 0, counted}
end

local bucket = redis.call('HMGET', KEYS[1], 'at', 'floor', 'win', 'cur', 'prev')
local at = tonumber(bucket[1]) or now
local floor = tonumber(bucket[2]) or floor_per_min * 60000
local win = math.floor(now / window)
local old = tonumber(bucket[3]) or win
local cur, prev = tonumber(bucket[4]) or 0, tonumber(bucket[5]) or 0
floor = math.min(floor_per_min * 60000, floor + math.max(0, now - at) * floor_per_min)
if win == old + 1 then
  prev, cur = cur, 0
elseif win > old + 1 then
  prev, cur = 0, 0
end

local allowed, wait = 1, 0
local left = ARGV[3] == '2' and floor_per_min * 30000 or 0
if ARGV[3] ~= '0' or resubmitted then
  if prev >= 1000 then
    prev = prev - 1000
  elseif prev + cur >= 1000 then
    cur = cur - (1000 - prev)
    prev = 0
  elseif floor >= 60000 + left then
    floor = floor - 60000
  else
    allowed = 0
    wait = floor_per_min > 0 and left == 0 and math.ceil((60000 - floor) / floor_per_min) or -1
  end
else
  cur = math.min(cap, cur + deposit)
end
redis.call('HSET', KEYS[1], 'at', now, 'floor', floor, 'win', win, 'cur', cur, 'prev', prev)
redis.call('PEXPIRE', KEYS[1], 2 * window)
local kind = resubmitted and '1' or '0'
if allowed == 1 then
  redis.call('SET', KEYS[2], kind, 'PX', ARGV[7])
end
return {allowed, wait, kind}
