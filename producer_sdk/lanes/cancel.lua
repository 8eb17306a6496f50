-- Cancels a job: a waiting one will not be called, the worker of a running one is told.
-- KEYS: root. ARGV: 1 job id. Returns where it was: 'pending' (no worker had begun it), 'running', 'finished', 'unknown'.

local job = read(ARGV[1])
if not job then return 'unknown' end
if job.state == 'finished' or job.state == 'dead' then return 'finished' end
if job.state == 'running' then
  redis.call('HSET', JOB .. job.id, 'cancel', 1)
  redis.call('PUBLISH', WAKE, 'cancel:' .. job.id)
  return 'running'
end
if job.state ~= 'closing' then
  close(job, 'cancelled')
  withdraw(job)
end
return 'pending'
