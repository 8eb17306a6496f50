-- A retry: the held job goes back under its id with a new message, to the end of its queue or delayed.
-- KEYS: root. ARGV: 1 tag, then of the new entry: 2 message, 3 cost, 4 tokens, 5 priority, 6 due_ms, 7 deadline_ms, 8
-- the job's story, or ''. The digest stays that of the first put.
-- Returns 1, or 0 where the tag is not live. One's own move again: 1.

local tag, message, cost, tokens, priority, due, deadline, story = unpack(ARGV)
local job, is_live = holder(tag)
if not is_live then return job and job.last == 'move:' .. tag and 1 or 0 end
write_fresh(job, message)
job.priority, job.deadline, job.back = tonumber(priority), tonumber(deadline), nil
redis.call('HSET', JOB .. job.id, 'cost', cost, 'tokens', tokens, 'priority', priority, 'put', NOW, 'deadline', deadline)
redis.call('HDEL', JOB .. job.id, 'back')
if story ~= '' then redis.call('HSET', JOB .. job.id, 'story', story) end
if job.charged then settle(job, 0) end -- only what nobody has billed is retried
job.cost, job.tokens = tonumber(cost), tonumber(tokens)
release(job, 'move')
wait_again(job, tonumber(due))
if job.charged then correct(job.lane, job.tenant, -job.charged) end
return 1
