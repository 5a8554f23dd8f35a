-- ms after which a reservation is too old for its request to be accepted: it may be released, see check_charge.lua.
local longest_reserved = 300000

-- What the address's part of the admission says. Values of `elsewhere`:
--   ''         there is one partition;
--   'here'     this partition has the address's line and rates too;
--   'unasked'  another one has them and was not asked yet: while the line is long, the answer is 'ask';
--   else the answer of admit.lua: 'admitted', 'behind' or 'limited', a colon and ms.
local function admit_address()
  if elsewhere == 'unasked' then
    local wait = short_wait()
    return not wait and {'ask'} or nil, wait
  end
  if elsewhere ~= '' and elsewhere ~= 'here' then
    local status, ms = string.match(elsewhere, '^(%a+):(%d+)$')
    return status ~= 'admitted' and {status, tonumber(ms)} or nil, tonumber(ms)
  end
  local wait, too_long, ms = expected_wait(elsewhere == 'here')
  return too_long and {'behind', math.ceil(ms)} or nil, wait or 0
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
  local refusal, wait = admit_address()
  if refusal then
    return refusal
  end
  local refill = take_tokens()
  if refill > 0 then
    return {'limited', refill}
  end
  return nil, wait
end

-- Adds a request that is stored to those without a reply; the answer that says so. The sweep checks the session when it
-- should have been claimed long ago. `number` is that of the event that published the request, `about` what the answer
-- says of it besides. `task` goes into the list `queue` in the same step, where the broker is this Redis. An interruption
-- stops the reply that is generated or due next; those behind it keep their order. Last in the answer: whether the session
-- became ready, so that it belongs into its address's line.
local function await_reply(wait, number, about)
  if on_busy == 'interrupt' then
    stop_reply()
  end
  redis.call('RPUSH', pending, message)
  if charge ~= '' then
    redis.call('HSET', charges, message, charge)
  end
  local time = now()
  redis.call('ZADD', ledger, 'NX', time + check_after_ms + 2 * math.floor(wait), session)
  local ready = redis.call('ZADD', waiting, 'NX', time, session)
  local fields = {}
  if ready == 1 and (elsewhere == '' or elsewhere == 'here') then
    enter_line(time)
    fields = {'line', KEYS[#KEYS]}
  end
  if trace ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'trace:' .. message, trace .. ' ' .. time
  end
  if fields[1] then
    redis.call('HSET', state, unpack(fields))
  end
  touch()
  local needs_task = not attended()
  if needs_task and task ~= '' then
    -- Of a queue that takes no task the sender of the next one learns: the message is stored all the same.
    needs_task = type(redis.pcall('LPUSH', queue, task)) == 'table'
  end
  return {'accepted', needs_task and 1 or 0, number or 0, about or '', ready}
end
