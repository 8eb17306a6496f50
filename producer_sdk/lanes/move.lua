-- A retry: the held job goes back under its id with a new message, to the end of its queue or delayed.
-- KEYS: root. ARGV: 1 tag, then of the new entry: 2 message, 3 cost, 4 priority, 5 due_ms, 6 deadline_ms. The digest
-- stays that of the first put. Returns 1, or 0 where the tag is not live. One's own move again: 1.

local tag, message, cost, priority, due, deadline = unpack(ARGV)
local job, is_live = holder(tag)
if not is_live then return job and job.last == 'move:' .. tag and 1 or 0 end
redis.call('SET', MESSAGE .. job.id, message)
job.priority, job.deadline = priority, tonumber(deadline)
job.seq = redis.call('HINCRBY', STATE, 'seq', 1)
redis.call('HSET', JOB .. job.id, 'cost', cost, 'priority', priority, 'seq', job.seq, 'put', NOW, 'deadline', deadline)
release(job, 'move')
wait_again(job, tonumber(due))
return 1
