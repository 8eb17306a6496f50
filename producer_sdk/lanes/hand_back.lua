-- Gives a held job back to the head of its queue, or delays it; this delivery is not counted, its charge is refunded.
-- KEYS: root. ARGV: 1 tag, 2 delay_ms. Returns 1, or 0 where the tag is not live. One's own hand-back again: 1.

local job, is_live = holder(ARGV[1])
if not is_live then return job and job.last == 'hand_back:' .. ARGV[1] and 1 or 0 end
local delay_ms = tonumber(ARGV[2])
release(job, 'hand_back')
if not job.stop then refund(job.lane, job.tenant, job.cost) end
wait_again(job, delay_ms > 0 and NOW + delay_ms or 0)
return 1
