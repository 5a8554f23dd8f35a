-- Goes before every script that works on one session: the names of its keys, and what the scripts share.
-- KEYS are always the same eleven, in the order of store.py; accept and retry have those of their rates behind them.

local document, index, turns, pending = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local failed, state, partial, lease, ledger = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local waiting, sockets = KEYS[10], KEYS[11]
-- All sessions share it, and it is only written to: see unanswered.py.
local unanswered = 'chat:unanswered'

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- All keys of a session live and end together.
local function touch(ttl)
  for i = 1, 7 do
    redis.call('PEXPIRE', KEYS[i], ttl)
  end
  redis.call('PEXPIRE', sockets, ttl)
end

local function exists()
  return redis.call('EXISTS', document) == 1
end

-- Nobody needs to be woken when a worker holds the session, or when a retry is set for later: both look again.
local function attended()
  return redis.call('EXISTS', lease) == 1 or tonumber(redis.call('HGET', state, 'hold') or 0) > now()
end

-- Whoever claimed last may write, and nobody else, however late his writes arrive.
local function owns(fence)
  return redis.call('HGET', state, 'fence') == fence
end

-- `channel` is one that the owner listens to for as long as its process lives: see sweep.lua.
local function hold_lease(session, lease_ms, grace_ms, channel)
  redis.call('SET', lease, channel, 'PX', lease_ms)
  redis.call('ZADD', ledger, now() + lease_ms + grace_ms, session)
  -- Should the owner die, the session waits for a worker from the lease's end on.
  redis.call('ZADD', waiting, now() + lease_ms, session)
end

-- Puts a session with a new unanswered message among those that somebody is to look at.
local function note(session, look_after)
  redis.call('ZADD', ledger, 'NX', now() + look_after, session)
  redis.call('ZADD', waiting, 'NX', now(), session)
end

local function forget(session)
  redis.call('ZREM', ledger, session)
  redis.call('ZREM', waiting, session)
  redis.call('ZREM', unanswered, session)
end

-- How many ms the message has waited that has waited longest for a worker, of all sessions.
local function longest_wait()
  local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
  return first[2] and math.max(now() - first[2], 0) or 0
end

-- Takes one out of each bucket, or none out of any: then the ms until all have one. A bucket fills again evenly; what
-- is kept of it is the time at which it will be full. The buckets' keys stand in KEYS from 12 on; in ARGV from
-- `first` on each one's ms for one more, and how many it holds.
local function take(first)
  local moment, wait, full = redis.call('TIME'), 0, {}
  moment = moment[1] * 1000 + moment[2] / 1000
  for i = 12, #KEYS do
    local each = tonumber(ARGV[first + 2 * (i - 12)])
    full[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), moment) + each
    wait = math.max(wait, full[i] - moment - each * ARGV[first + 2 * (i - 12) + 1])
  end
  if wait > 0 then
    return math.ceil(wait)
  end
  for i = 12, #KEYS do
    redis.call('SET', KEYS[i], string.format('%.3f', full[i]), 'PX', math.ceil(full[i] - moment))
  end
  return 0
end

-- Whether one more message may wait: nil and the ms that one has waited longest, or the answer that refuses it. Buckets
-- stand in ARGV from `first` on; at most `most` may wait in the session, and nobody for longer than `allowed` ms or 0.
local function admit(first, most, allowed)
  local wait = take(first)
  if wait > 0 then
    return {'limited', wait}
  end
  if redis.call('LLEN', pending) >= tonumber(most) then
    return {'full'}
  end
  local longest = longest_wait()
  if tonumber(allowed) > 0 and longest > tonumber(allowed) then
    return {'behind', longest}
  end
  return nil, longest
end

-- How many messages and turns have left at the oldest end. Places in the log are counted from the session's
-- beginning, so that they stay what they are.
local function trimmed()
  local gone = redis.call('HMGET', state, 'trimmed', 'trimmed_turns')
  return tonumber(gone[1] or 0), tonumber(gone[2] or 0)
end

-- Leaves the `most` newest messages, 0 for all, and whatever is unanswered with all that comes after it. `length` is
-- that of the log now; `settled` is a message that is answered in this very step. A step drops no more than a hundred
-- messages, so that none takes long.
local function trim(most, length, settled)
  if most == 0 or length <= most then
    return
  end
  local messages, humans = 0, 0
  while length - messages > most and messages < 100 do
    local id = string.sub(redis.call('JSON.GET', document, '.messages[' .. messages .. '].id'), 2, -2)
    if string.sub(redis.call('HGET', index, id) or '', 1, 1) == 'h' then
      if id ~= settled and redis.call('LPOS', pending, id) then
        break
      end
      redis.call('LPOP', turns)
      redis.call('HDEL', failed, id)
      humans = humans + 1
    end
    redis.call('HDEL', index, id)
    messages = messages + 1
  end
  if messages > 0 then
    redis.call('JSON.ARRTRIM', document, '.messages', messages, length - 1)
    redis.call('HINCRBY', state, 'trimmed', messages)
    redis.call('HINCRBY', state, 'trimmed_turns', humans)
  end
end

-- The fence moves on, so that writes still on their way from the owner count no more.
local function let_go()
  redis.call('HINCRBY', state, 'fence', 1)
  redis.call('DEL', lease)
end

-- An event, numbered; `length` is the log's once the event's message is in it, if it has one. See events.py.
local function publish(channel, frame, length)
  local number = redis.call('HINCRBY', state, 'events', 1)
  redis.call('PUBLISH', channel, number .. ':' .. (length or '') .. '\n' .. frame)
end

-- The message and up to `limit` - 1 messages before it, in the order of the conversation: each human message
-- with its reply behind it, whenever that was stored. Never a later message.
local function prompt(message, limit)
  local seq, turn = string.match(redis.call('HGET', index, message), '^h:(%d+):(%d+)$')
  local gone, gone_turns = trimmed()
  turn = turn - gone_turns
  local positions = {}
  if turn > 0 then
    for _, entry in ipairs(redis.call('LRANGE', turns, math.max(turn - limit, 0), turn - 1)) do
      local human, bot = string.match(entry, '^(%d+):?(%d*)$')
      positions[#positions + 1] = human
      if bot ~= '' then
        positions[#positions + 1] = bot
      end
    end
  end
  positions[#positions + 1] = seq
  local messages = {}
  for i = math.max(1, #positions - limit + 1), #positions do
    messages[#messages + 1] = redis.call('JSON.GET', document, '.messages[' .. positions[i] - gone .. ']')
  end
  return messages
end

-- What the owner of the lease is to do: {'message', fence, id, attempts, loading since, stop?, messages...}
local function assignment(message, limit)
  local fields = redis.call('HMGET', state, 'fence', 'attempts', 'loading', 'stop')
  local result = {
    'message', fields[1], message, tonumber(fields[2] or 0), tonumber(fields[3] or 0),
    fields[4] == message and 1 or 0, now()
  }
  for _, json in ipairs(prompt(message, limit)) do
    result[#result + 1] = json
  end
  return result
end

-- From here on the message waits for its reply. A session stands in `unanswered` by the time since which the oldest
-- of its messages has waited.
local function begin_wait(session, message)
  local time = now()
  redis.call('HSET', state, 'since:' .. message, time)
  redis.call('ZADD', unanswered, 'NX', time, session)
end

-- After a message is settled: the next one that is unanswered, or, in the same step, the lease let go.
local function settle(message, session, lease_ms, grace_ms, limit, go_on, channel)
  redis.call('LPOP', pending)
  redis.call('DEL', partial)
  redis.call('HDEL', state, 'attempts', 'hold', 'loading', 'stop', 'since:' .. message)
  local following = redis.call('LINDEX', pending, 0)
  if not following then
    let_go()
    forget(session)
    return {'idle'}
  end
  redis.call('ZADD', unanswered, redis.call('HGET', state, 'since:' .. following) or now(), session)
  if go_on ~= '1' then
    let_go()
    redis.call('ZADD', ledger, now(), session)
    redis.call('ZADD', waiting, now(), session)
    return {'released'}
  end
  hold_lease(session, lease_ms, grace_ms, channel)
  return assignment(following, limit)
end
