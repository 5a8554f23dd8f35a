-- How much of the free line one address may take: with 8, a single address gets eight ninths of it, and a newcomer
-- always finds room. (Dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking, 1998.)
local address_share = 8
-- A newcomer gets in beyond the line's length, up to this many times.
local newcomer_excess = 1.2
-- ms after which a session leaves its address's line at the latest, should its worker's claim be lost.
local longest_line = 600000
-- ms after which a reservation is too old for its request to be accepted: it may be released, see check_charge.lua.
local longest_reserved = 300000

-- In ms, over all sessions.
local function queue_delay()
  local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
  return first[2] and math.max(now() - first[2], 0) or 0
end

-- The expected wait for a worker in ms, nil while the workers' pace is unknown; and whether that is more than
-- `max_wait_ms` allows. The surplus is taken from the addresses with most sessions in line.
-- The last of KEYS is the line of the message's address.
local function expected_wait()
  local time, line, allowed = now(), ready_sessions(), tonumber(max_wait_ms)
  if line == 0 then
    redis.call('HSET', pace, 'at', time)
    return 0, false
  end
  local claims, ms = pace_sums(time)
  if claims < 1 then
    -- Also when the workers stand still.
    return nil, allowed > 0 and queue_delay() > allowed
  end
  local wait, length = line * ms / claims, allowed * claims / ms
  local own = redis.call('ZCARD', KEYS[#KEYS])
  local room = own < address_share * (length - line) or own == 0 and line < newcomer_excess * length
  return wait, allowed > 0 and not room
end

-- The answer that refuses the message, or nil and the expected wait. A refusal takes no token.
local function refuse()
  if charge ~= '' and now() > string.match(charge, '%d+$') + longest_reserved then
    return {'stale'}
  end
  if on_busy == 'reject' and redis.call('EXISTS', pending) == 1 then
    return {'busy'}
  end
  if redis.call('LLEN', pending) >= tonumber(max_pending) then
    return {'full'}
  end
  local wait, too_long = expected_wait()
  if too_long then
    return {'behind', math.ceil(wait or queue_delay())}
  end
  local refill = take_tokens()
  if refill > 0 then
    return {'limited', refill}
  end
  return nil, wait or 0
end

-- Adds a request that is stored to those without a reply; the answer that says so. The sweep checks the session when it
-- should have been claimed long ago. `number` is that of the event that published the request, `about` what the answer
-- says of it besides. `task` goes into the list `queue` in the same step, where the broker is this Redis. An interruption stops the reply that is generated or due next; those behind it keep their order.
local function await_reply(wait, number, about)
  if on_busy == 'interrupt' then
    stop_reply()
  end
  redis.call('RPUSH', pending, message)
  if charge ~= '' then
    redis.call('HSET', charges, message, charge)
  end
  local time, line = now(), KEYS[#KEYS]
  redis.call('ZADD', ledger, 'NX', time + check_after_ms + 2 * math.floor(wait), session)
  if redis.call('ZADD', waiting, 'NX', time, session) == 1 then
    redis.call('ZADD', line, time, session)
    redis.call('ZREMRANGEBYSCORE', line, '-inf', time - longest_line)
    redis.call('PEXPIRE', line, longest_line)
    redis.call('HSET', state, 'line', line)
  end
  touch()
  local needs_task = not attended()
  if needs_task and task ~= '' then
    -- Of a queue that takes no task the sender of the next one learns: the message is stored all the same.
    needs_task = type(redis.pcall('LPUSH', queue, task)) == 'table'
  end
  return {'accepted', needs_task and 1 or 0, number or 0, about or ''}
end
