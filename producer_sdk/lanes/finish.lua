-- Ends held jobs: writes each result where Celery's Redis result backend keeps it, tells who waits, frees the slot.
-- KEYS: root, then the result key and the stream of each job. ARGV, 9 a job: tag, '1' where there is a result, result,
-- ttl_s, the channel to tell or '', the cost and the tokens that it took ('' where nobody knows), why it is listed as dead
-- or '', and the last event of its stream or ''.
-- Returns 1 a job, or 0 where the tag is not live: then nothing was written. One's own finish again: 1.

local ENDED_MS = 600000 -- for how long a stream that has ended is there, or as long as the result where that is less

local function finish(key, stream, tag, has_result, result, ttl, channel, cost, tokens, dead, ending)
  local job, is_live = holder(tag)
  if not is_live then return job and job.last == 'finish:' .. tag and 1 or 0 end
  if ending ~= '' then extend(stream, math.min(ENDED_MS, ttl * 1000), { ending }) end
  if has_result == '1' then
    redis.call('SET', key, result, 'EX', ttl)
    redis.call('PUBLISH', key, result)
    if channel ~= '' then redis.call('PUBLISH', channel, job.id) end
  end
  if dead ~= '' then bury(job.id, job.tenant, job.lost + 1, dead) end
  if job.charged then settle(job, tonumber(tokens)) end
  release(job, 'finish')
  redis.call('DEL', MESSAGE .. job.id)
  redis.call('HDEL', JOB .. job.id, 'task', 'cost', 'tokens', 'priority', 'spot', 'put', 'deadline', 'ttl', 'back',
    'cancel', 'stop', 'streamed', 'ahead', 'taken', 'let_go', 'story', 'losses')
  set_state(job, job.stop == 'dead' and 'dead' or 'finished')
  redis.call('EXPIRE', JOB .. job.id, math.max(tonumber(ttl), tonumber(job.ttl) or 0))
  place(job.tenant)
  if cost ~= '' and job.charged then
    correct(job.lane, job.tenant, cost / (limits_of(job.tenant).weight or 1) - job.charged)
  end
  return 1
end

local replies = {}
for i = 1, (#KEYS - 1) / 2 do
  replies[i] = finish(KEYS[2 * i], KEYS[2 * i + 1], unpack(ARGV, 9 * i - 8, 9 * i))
end
return replies
