-- Gives a held job back to the head of its queue, or delays it; this delivery is not counted, and what it was charged is
-- given back, but for the request.
-- KEYS: root. ARGV: 1 tag, 2 delay_ms, 3 the job's story, or ''.
-- Returns 1, or 0 where the tag is not live. One's own hand-back again: 1.

local job, is_live = holder(ARGV[1])
if not is_live then return job and job.last == 'hand_back:' .. ARGV[1] and 1 or 0 end
local delay_ms = tonumber(ARGV[2])
redis.call('HSET', JOB .. job.id, 'back', 1)
job.back = '1'
if ARGV[3] ~= '' then redis.call('HSET', JOB .. job.id, 'story', ARGV[3]) end
if job.charged then settle(job, 0) end
release(job, 'hand_back')
wait_again(job, delay_ms > 0 and NOW + delay_ms or 0)
if job.charged then correct(job.lane, job.tenant, -job.charged) end
return 1
