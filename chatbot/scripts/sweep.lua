-- The sessions that somebody should look at now. Each is put off in the same step, so that several sweeps at once
-- name it once; a session that is looked at in vain is named less and less often.
-- KEYS: ledger. ARGV: most sessions, grace in ms, first wait in ms, longest wait in ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local overdue = {}
for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local prefix = 'chat:{' .. session .. '}:'
  local held = redis.call('PTTL', prefix .. 'lease')
  if redis.call('EXISTS', prefix .. 'session') == 0 or redis.call('LLEN', prefix .. 'pending') == 0 then
    redis.call('ZREM', KEYS[1], session)
  elseif held > 0 then
    redis.call('ZADD', KEYS[1], now + held + ARGV[2], session)
  else
    local looks = redis.call('HINCRBY', prefix .. 'state', 'looks', 1)
    redis.call('PEXPIRE', prefix .. 'state', redis.call('PTTL', prefix .. 'session'))
    local wait = math.min(ARGV[3] * 2 ^ (looks - 1), tonumber(ARGV[4]))
    redis.call('ZADD', KEYS[1], now + wait, session)
    overdue[#overdue + 1] = session
  end
end
return overdue
