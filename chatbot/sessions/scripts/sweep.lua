-- The sessions that somebody should look at now. Each is put off in the same step, so that several sweeps at once
-- name it once; a session that is looked at in vain is named less and less often.
-- KEYS: ledger, sessions that wait for a worker. ARGV: most sessions, lease in ms, grace in ms, first wait in ms, longest wait in ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local grace = ARGV[3]

-- A process that was killed has its connections closed at once: nobody listens to its channel any more, and its
-- leases need not be waited for. An owner without a channel is only known to be dead by its lease's end.
local listeners = {}
local function dead(channel)
  if channel == '' then
    return false
  end
  if listeners[channel] == nil then
    listeners[channel] = redis.call('PUBSUB', 'NUMSUB', channel)[2]
  end
  return listeners[channel] == 0
end

local overdue = {}
-- Leases that are alive stand in the ledger by their end.
local horizon = now + ARGV[2] + grace
for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', horizon, 'LIMIT', 0, ARGV[1])) do
  local prefix = 'chat:{' .. session .. '}:'
  local due = tonumber(redis.call('ZSCORE', KEYS[1], session)) <= now
  local owner = redis.call('GET', prefix .. 'lease')
  if owner and dead(owner) then
    redis.call('DEL', prefix .. 'lease')
    redis.call('HINCRBY', prefix .. 'state', 'fence', 1)
    redis.call('ZADD', KEYS[2], now, session)
    owner, due = false, true
  end
  if redis.call('EXISTS', prefix .. 'session') == 0 or redis.call('LLEN', prefix .. 'pending') == 0 then
    redis.call('ZREM', KEYS[1], session)
    redis.call('ZREM', KEYS[2], session)
    redis.call('ZREM', 'chat:unanswered', session)
  elseif due and owner then
    redis.call('ZADD', KEYS[1], now + redis.call('PTTL', prefix .. 'lease') + grace, session)
  elseif due then
    local looks = redis.call('HINCRBY', prefix .. 'state', 'looks', 1)
    redis.call('PEXPIRE', prefix .. 'state', redis.call('PTTL', prefix .. 'session'))
    local wait = math.min(ARGV[4] * 2 ^ (looks - 1), tonumber(ARGV[5]))
    redis.call('ZADD', KEYS[1], now + wait, session)
    overdue[#overdue + 1] = session
  end
end

-- Those that ended while they waited would count as the backlog until the ledger comes to them.
for _, session in ipairs(redis.call('ZRANGE', KEYS[2], 0, 99)) do
  if redis.call('EXISTS', 'chat:{' .. session .. '}:session') == 0 then
    redis.call('ZREM', KEYS[2], session)
  end
end
return overdue
